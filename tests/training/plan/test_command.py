"""`hybatch plan` on the recipes for GPUs, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hybatch import cli
from hybatch.training.config import load_run_config
from tests.faked_processor import fake_processor

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture(autouse=True)
def any_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_DATA_DIR", "data")
    monkeypatch.setenv("HYBATCH_BACKBONES", "backbones")


def planned(tmp_path: Path, recipe: str, *options: str) -> Any:
    output = tmp_path / "plan.json"
    arguments = ["plan", "--config", str(CONFIGS / f"{recipe}.yaml"), "--json", str(output), *options]
    assert cli.main(arguments) == 0
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("recipe", "gpus", "strategy"),
    [("labse-hybrid", 1, "none"), ("xlmr-large-hybrid", 8, "ddp"), ("xlmr-xxl-zero3", 8, "zero3")],
)
def test_a_recipe_fits_the_gpus_that_it_names_with_the_figures_that_it_says(
    recipe: str, gpus: int, strategy: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, recipe, "--gpus", str(gpus))
    assert plan["strategies"][strategy]["fits"]
    path = CONFIGS / f"{recipe}.yaml"
    text = " ".join(path.read_text(encoding="utf-8").replace("#", " ").split())
    for name, column in plan["strategies"].items():
        assert f"{name} {column['bytes']['total'] / 1e9:.1f}" in text
    chunk_size = load_run_config(["--config", str(path)]).training.chunk_size
    assert (chunk_size or 0) <= plan["strategies"][strategy]["largest_chunk_size"]


def planned_with(precision: str, tmp_path: Path, *options: str) -> Any:
    return planned(tmp_path, "me5-small-hybrid", "--training.mixed_precision", precision, *options)


def test_auto_is_planned_as_bf16_on_gpus_which_are_not_known_to_lack_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto = planned_with("auto", tmp_path)
    out = " ".join(capsys.readouterr().out.split())
    assert "mixed precision bf16" in out
    assert "auto is planned as bf16, on GPUs that have it" in out
    assert auto["assumptions"]["mixed_precision"] == "bf16"
    assert auto == planned_with("bf16", tmp_path) != planned_with("no", tmp_path)
    assert "auto" not in capsys.readouterr().out


@pytest.mark.parametrize(("instructions", "comes_to"), [(["avx512_bf16"], "bf16"), ([], "no")])
def test_auto_is_planned_on_cpus_as_what_it_comes_to_on_this_one(
    instructions: list[str],
    comes_to: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_processor(monkeypatch, *instructions)
    monkeypatch.setattr("hybatch.training.plan.command.product_flops", lambda dtype: 1e11)
    auto = planned_with("auto", tmp_path, "--device", "cpu")
    out = " ".join(capsys.readouterr().out.split())
    assert f"mixed precision {comes_to}" in out
    assert f"auto comes to {comes_to}" in out
    assert "GPU" not in out
    assert auto == planned_with(comes_to, tmp_path, "--device", "cpu")


def test_the_time_of_a_run_in_float32_on_gpus_is_not_left_at_the_rate_of_bf16_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, said in (((), True), (("--peak-tflops", "67"), False)):
        planned_with("no", tmp_path, *options)
        out = " ".join(capsys.readouterr().out.split())
        assert ("989 TFLOP/s a rate of bf16: set training.mixed_precision to bf16" in out) is said
        assert " 0.00 s" not in out


def test_processes_on_cpus_share_the_memory_and_the_measured_rate_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybatch.training.plan.command.memory_bytes", lambda: 24 * 10**9)
    monkeypatch.setattr(
        "hybatch.training.plan.command.product_flops", lambda dtype: {torch.float32: 1e11, torch.bfloat16: 3e11}[dtype]
    )
    of = {
        (gpus, precision): planned_with(precision, tmp_path, "--device", "cpu", "--gpus", gpus)["assumptions"]
        for gpus in ("1", "2")
        for precision in ("no", "bf16")
    }
    assert {key: plan["gpu_memory_gb"] for key, plan in of.items() if key[1] == "no"} == {
        ("1", "no"): 24,
        ("2", "no"): 12,
    }
    assert [round(plan["peak_tflops"], 3) for plan in of.values()] == [0.1, 0.3, 0.05, 0.15]
    given = planned_with("no", tmp_path, "--device=cpu", "--gpu-memory", "7", "--peak-tflops", "2")["assumptions"]
    assert (given["gpu_memory_gb"], given["peak_tflops"]) == (7, 2)
    assert "fits 12 GB" in capsys.readouterr().out


RECIPES = [[path.stem] for path in sorted(CONFIGS.glob("*.yaml"))]
RECIPES += [["me5-small-hybrid", "adapters/lora"]]
STUDY = "../study/recipes"
RECIPES += [[f"{STUDY}/recipe", f"{STUDY}/scratch"]]
RECIPES += [[f"{STUDY}/recipe-large", f"{STUDY}/{start}"] for start in ("labse", "xlmr-large")]


@pytest.mark.parametrize("recipe", RECIPES, ids=" ".join)
def test_every_recipe_is_planned_one_without_layers_too(
    recipe: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlays = [part for name in recipe[1:] for part in ("--config", str(CONFIGS / f"{name}.yaml"))]
    plan = planned(tmp_path, recipe[0], *overlays)
    assert plan["strategies"]["none"]["bytes"]["total"] > 0
    fresh = load_run_config(["--config", str(CONFIGS / f"{recipe[0]}.yaml"), *overlays]).model.fresh
    has_layers = fresh is None or fresh.layers > 0
    assert (plan["step_flops_per_gpu"] > 0) == has_layers
    assert ("examples/s" in capsys.readouterr().out) == has_layers


def test_chunks_of_so_many_tokens_are_planned_as_chunks_of_the_texts_that_they_hold(tmp_path: Path) -> None:
    by_texts, by_tokens = (
        planned(tmp_path, "labse-hybrid", "--training.chunk_size", size, *more)
        for size, more in (("4", []), ("16", ["--training.chunk_tokens", "1024", "--model.passage_max_length", "256"]))
    )
    assert by_tokens["strategies"] == by_texts["strategies"]


def test_as_many_positives_are_planned_as_a_step_may_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [planned(tmp_path, "labse-hybrid", *more) for more in ([], ["--loss.max_positives", "3"])]
    assert [plan["work"]["positives"] for plan in plans] == [1, 3]
    assert plans[1]["step_flops_per_gpu"] > 1.5 * plans[0]["step_flops_per_gpu"]
    out = " ".join(capsys.readouterr().out.split())
    assert "set loss.max_positives to count with it" in out
    assert "Positives: 3 of each example" in out


def test_the_largest_model_fits_no_gpu_whole(tmp_path: Path) -> None:
    strategies = planned(tmp_path, "xlmr-xxl-zero3", "--gpus", "8")["strategies"]
    assert not strategies["ddp"]["fits"]
    assert strategies["ddp"]["largest_chunk_size"] is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--gpus", "3"], "sampling.batch_size"),
        (["--gpus", "512"], "training.chunk_size"),
        (["--gpus", "0"], "--gpus"),
        (["--mfu", "2"], "--mfu"),
    ],
)
def test_what_cannot_be_planned_is_named(options: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--config", str(CONFIGS / "xlmr-large-hybrid.yaml"), *options]) == 2
    assert named in capsys.readouterr().err


def test_the_file_of_a_plan_is_a_path_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = ["plan", "--config", str(CONFIGS / "labse-hybrid.yaml")]
    assert cli.main([*arguments, "--json=~/plan.json"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert cli.main([*arguments, "--json", str(tmp_path)]) == 2
    assert f"error: cannot write {tmp_path}: " in capsys.readouterr().err
