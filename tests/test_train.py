"""The training program as users run it: results, resume after a kill, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate import Accelerator

from hybatch.cli import main as hybatch
from hybatch.models import Encoder
from hybatch.train import main
from hybatch.training.step.engine import StepEngine
from hybatch.training.validation.measures import LossValidation
from tests.training.small_run import losses, read_metrics, write_config, write_corpus

ROOT = Path(__file__).resolve().parent.parent


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def _optimizer(run: Path, step: int) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / f"step-{step:08d}" / "optimizer.pt", weights_only=True)


def _assert_same_run(one: Path, other: Path, steps: int) -> None:
    """Bitwise: weights, optimizer, losses; and each step once."""
    assert _weights(one / "final") == _weights(other / "final")
    states = [_optimizer(run, steps)["state"] for run in (one, other)]
    for parameter, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][parameter][name])
    assert [step for step, _ in losses(one)] == list(range(1, steps + 1))
    assert losses(one) == losses(other)
    validations = [[row for row in read_metrics(run) if "validation" in row] for run in (one, other)]
    assert validations[0] == validations[1]


def test_a_run_leaves_encoders_metrics_and_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, training={"steps": 30, "checkpoint_every_steps": 10, "trackers": ["tensorboard"]})
    assert main(["--config", str(config)]) == 0
    run = tmp_path / "run"
    rows = read_metrics(run)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 31))
    assert {row["kind"] for row in steps} == {"x-x-mono", "x-y"}
    assert sum(row["loss"] for row in steps[-5:]) < sum(row["loss"] for row in steps[:5])
    assert [row["step"] for row in rows if "validation" in row] == [20, 30]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["latest", "step-00000020", "step-00000030"]
    assert (run / "checkpoints" / "latest").resolve().name == "step-00000030"
    assert list((run / "tensorboard" / "hybatch").glob("events.*"))
    shapes = {tuple(Encoder.load(run / name)(_features(run / name)).shape) for name in ("initial", "best", "final")}
    assert shapes == {(1, 32)}
    # Numbers 140 to 149 stand in both corpora: a question and a passage each in three languages.
    assert "60 of the 360 distinct texts of held-out" in capsys.readouterr().out


def _features(folder: Path) -> dict[str, torch.Tensor]:
    return Encoder.load(folder).tokenize(["red house"], "query")


def test_the_same_command_again_says_that_the_run_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"steps": 2, "warmup_steps": 0}, validation={"corpora": []})
    assert main(["--config", str(config)]) == 0
    before = _weights(tmp_path / "run" / "final")
    assert hybatch(["train", "--config", str(config)]) == 0
    assert "finished" in capsys.readouterr().out
    assert _weights(tmp_path / "run" / "final") == before


def test_the_command_ends_with_the_codes_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hybatch(["train", "--training.steps", "0"]) == 2
    assert "error: " in capfd.readouterr().err
    closed: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda _, descriptor: closed.append(descriptor))

    def nobody_reads(argv: list[str]) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("hybatch.training.config.load_run_config", nobody_reads)
    assert hybatch(["train"]) == 128 + signal.SIGPIPE
    assert closed == [sys.stdout.fileno()]
    assert "what read the output went away" in capfd.readouterr().err


def test_an_interrupted_run_goes_on_bitwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path)
    assert main(["--config", str(config), "--output_dir", str(tmp_path / "whole")]) == 0

    class PowerCutError(Exception):
        pass

    step_of_engine = StepEngine.step

    def dies_at_step_28(engine: StepEngine, local: Any) -> Any:
        if local.batch.step == 28:
            raise PowerCutError
        return step_of_engine(engine, local)

    monkeypatch.setattr(StepEngine, "step", dies_at_step_28)
    with pytest.raises(PowerCutError):
        main(["--config", str(config)])
    monkeypatch.setattr(StepEngine, "step", step_of_engine)
    assert not (tmp_path / "run" / "final").exists()
    assert main(["--config", str(config)]) == 0
    _assert_same_run(tmp_path / "whole", tmp_path / "run", 40)


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        training={"steps": 60, "learning_rate": 1e-12},
        validation={"every_steps": 5, "patience": 2, "metric": "map", "examples": 20},
    )
    assert main(["--config", str(config)]) == 0
    rows = [row for row in read_metrics(tmp_path / "run") if "validation" in row]
    # Weights that hardly move give the same ranks again and again.
    assert [row["step"] for row in rows] == [5, 10, 15]
    figures = rows[0]["validation"]
    settings = ("monolingual", "cross_lingual", "multilingual")
    assert figures["selection"] == pytest.approx(sum(figures[f"{name}/map"] for name in settings) / 3)
    assert figures["multilingual/rank_distance"] > 0
    assert (tmp_path / "run" / "best").exists()
    assert main(["--config", str(config)]) == 0


def test_the_best_is_chosen_among_the_validations_after_a_share_of_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([1.0, 1.5, 2.5, 2.0])
    monkeypatch.setattr(LossValidation, "measure", lambda _: {"selection": next(figures)})
    config = write_config(
        tmp_path,
        training={"steps": 16, "checkpoint_every_steps": 16},
        validation={"every_steps": 4, "select_after_share": 0.5, "patience": 2},
    )
    assert main(["--config", str(config)]) == 0
    run = tmp_path / "run"
    assert [row["step"] for row in read_metrics(run) if "validation" in row] == [4, 8, 12, 16]
    state = json.loads((run / "checkpoints" / "latest" / "state.json").read_text(encoding="utf-8"))
    assert state["best"] == {"value": 2.0, "step": 16, "without_progress": 0}
    assert _weights(run / "best") == _weights(run / "final")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--training.stepz", "3"], ["stepz"]),
        (["--training.steps", "many"], ["training.steps"]),
        (["--training.steps", "0"], ["training.steps"]),
        (["--training.chunk_size", "17"], ["training.chunk_size", "17", "16"]),
        (["--training.chunk_size", "0"], ["training.chunk_size"]),
        (["--training.strategy", "zero2"], ["training.strategy", "zero2", "prepared none"]),
        (["--training.strategy", "ddp"], ["training.strategy", "several processes"]),
        (["--training.trackers", "[telegraph]"], ["trackers", "telegraph"]),
        (["--sampling.batch_size", "151"], ["sampling.batch_size", "151"]),
        (["--sampling.languages", "[de, xx]"], ["xx"]),
        (["--sampling.kind", "z-z"], ["sampling.kind"]),
        (["--corpora", "[]"], ["corpora"]),
        (["--corpora", "[{path: /nowhere}]"], ["/nowhere"]),
        (["--corpora", "[{pfad: /nowhere}]"], ["pfad"]),
        (["--output_dir", "$NO_SUCH_VARIABLE/run"], ["NO_SUCH_VARIABLE"]),
        (["--loss.hard_negatives", "1"], ["loss.hard_negatives"]),
        (["--loss.temperature", "0"], ["loss.temperature"]),
        (["--validation.corpora", "[]", "--validation.metric", "map"], ["validation.metric"]),
        (["--validation.batch_size", "100"], ["validation.corpora", "validation.batch_size 100"]),
        (["--validation.languages", "[de, xx]"], ["validation.languages names xx", "de, en, es"]),
        (["--validation.languages", "[]"], ["validation.languages"]),
        (["--validation.languages", "[xx]", "--validation.metric", "map"], ["validation.languages names xx"]),
        (["--model.backbone", "/nowhere"], ["model.backbone"]),
        # The model is checked before the data, which may take an hour to index.
        (["--corpora", "[{path: /nowhere}]", "--model.fresh.architecture", "xlm-robert"], ["model.fresh", "roberta"]),
        (["--corpora", "[{path: /nowhere}]", "--model.fresh", "null", "--model.backbone", "/no/model"], ["/no/model"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
    ],
)
def test_bad_input_is_named_and_ends_with_code_2(
    options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path)
    assert main(["--config", str(config), *options]) == 2
    error = capsys.readouterr().err
    assert "error: " in error
    for word in words:
        assert word in error


def test_a_file_that_is_no_yaml_and_an_unknown_key_in_it_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"steps": 2, "lerning_rate": 1.0})
    assert main(["--config", str(config)]) == 2
    assert "lerning_rate" in capsys.readouterr().err
    config.write_text("training: [unclosed", encoding="utf-8")
    assert main(["--config", str(config)]) == 2
    assert "config.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"), ("ACCELERATE_MIXED_PRECISION", "fp16")],
)
def test_settings_of_the_launcher_that_contradict_are_refused(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["--config", str(write_config(tmp_path))]) == 2
    assert value in capsys.readouterr().err


def test_a_process_in_which_another_trainer_chose_the_precision_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Accelerator(mixed_precision="bf16")
    assert main(["--config", str(write_config(tmp_path))]) == 2
    assert "process of its own" in capsys.readouterr().err


def test_an_output_folder_with_other_things_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, training={"steps": 2, "warmup_steps": 0}, validation={"corpora": []})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("\\begin", encoding="utf-8")
    assert main(["--config", str(config)]) == 2
    assert "no run" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["--config", str(config), "--output_dir", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert main(["--config", str(config), "--output_dir", "/proc/run"]) == 2
    assert "/proc/run" in capsys.readouterr().err


def test_a_run_of_another_configuration_is_left_alone_and_the_fields_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"steps": 2, "warmup_steps": 0}, validation={"corpora": []})
    assert main(["--config", str(config)]) == 0
    assert main(["--config", str(config), "--loss.symmetric", "true", "--seed", "9"]) == 2
    error = capsys.readouterr().err
    assert "loss.symmetric: was False, now True" in error
    assert "seed: was 3, now 9" in error
    assert main(["--config", str(config), "--training.resume", "never"]) == 2
    assert "resume" in capsys.readouterr().err
    assert main(["--config", str(config), "--training.log_every", "7"]) == 0


def test_a_resume_on_changed_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, training={"steps": 2, "warmup_steps": 0}, validation={"corpora": []})
    assert main(["--config", str(config)]) == 0
    shutil.rmtree(tmp_path / "run" / "final")
    write_corpus(tmp_path / "train", examples=151)
    assert main(["--config", str(config)]) == 2
    assert "corpora.0" in capsys.readouterr().err


# --- whole processes ---------------------------------------------------------------------------------------------


def _start(launcher: list[str], config: Path, *options: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "ACCELERATE_CONFIG_FILE": ""}
    environment["HF_HOME"] = str(config.parent / "hf")
    return subprocess.Popen(
        [*launcher, "--config", str(config), *options],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise
    return process.returncode, output


def _kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the process and those it launched, which have sessions of their own."""
    for victim in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        victim.kill()
    process.communicate()


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, _finish(process)[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


ALONE = [sys.executable, "hybatch/train.py"]
ACCELERATE = [str(Path(sys.executable).parent / "accelerate"), "launch", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
# Without a GPU this starts two processes on the CPU; --cpu would start one.
TWO = [*ACCELERATE, "--multi_gpu", "--num_processes", "2", "hybatch/train.py"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [ALONE, TWO], ids=["one process", "two processes"])
def test_a_run_killed_between_checkpoints_ends_bitwise_where_the_undisturbed_run_ends(
    launcher: list[str], tmp_path: Path
) -> None:
    config = write_config(tmp_path)
    code, output = _finish(_start(launcher, config, "--output_dir", str(tmp_path / "whole")))
    assert code == 0, output
    process = _start(launcher, config)
    _wait_for(tmp_path / "run" / "checkpoints" / "latest", process)
    _kill(process)
    assert not (tmp_path / "run" / "checkpoints" / "step-00000040").exists()
    code, output = _finish(_start(launcher, config))
    assert code == 0, output
    assert "going on after step 20" in output
    _assert_same_run(tmp_path / "whole", tmp_path / "run", 40)


@pytest.mark.slow
def test_a_term_signal_ends_the_step_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    config = write_config(tmp_path, training={"steps": 400, "checkpoint_every_steps": None}, validation={"corpora": []})
    process = _start(ALONE, config)
    metrics = tmp_path / "run" / "metrics.jsonl"
    _wait_for(metrics, process)
    while metrics.stat().st_size == 0:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    code, output = _finish(process)
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in output
    latest = (tmp_path / "run" / "checkpoints" / "latest").resolve().name
    assert losses(tmp_path / "run")[-1][0] == int(latest.removeprefix("step-"))
    code, output = _finish(_start(ALONE, config))
    assert code == 0, output
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 401))


@pytest.mark.slow
def test_every_way_of_starting_and_two_processes_give_the_same_losses(tmp_path: Path) -> None:
    model = {"fresh": {"width": 32, "layers": 1, "heads": 2, "vocabulary_size": 500, "dropout": 0.0}}
    training = {"steps": 12, "checkpoint_every_steps": None, "chunk_size": 3}
    config = write_config(tmp_path, model=model, training=training, loss={"symmetric": True})
    launchers = {
        "file": ALONE,
        "module": [*ACCELERATE, "--cpu", "--num_processes", "1", "-m", "hybatch.train"],
        "two": [*TWO[:-1], "-m", "hybatch", "train"],
    }
    for name, launcher in launchers.items():
        code, output = _finish(_start(launcher, config, "--output_dir", str(tmp_path / name)))
        assert code == 0, output
    assert losses(tmp_path / "file") == losses(tmp_path / "module")
    manifest = (tmp_path / "two" / "checkpoints" / "latest" / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(manifest)["surroundings"]["processes"] == 2
    for (_, alone), (_, shared) in zip(losses(tmp_path / "file"), losses(tmp_path / "two"), strict=True):
        assert shared == pytest.approx(alone, rel=1e-3)
    of_validation = [
        [row["validation"]["selection"] for row in read_metrics(tmp_path / name) if "validation" in row]
        for name in ("file", "two")
    ]
    assert of_validation[1] == pytest.approx(of_validation[0], rel=1e-3)


@pytest.mark.slow
def test_a_compiled_encoder_learns_what_the_plain_one_learns_dropout_and_chunks_included(tmp_path: Path) -> None:
    training = {"steps": 6, "checkpoint_every_steps": None, "chunk_size": 5}
    config = write_config(tmp_path, training=training, validation={"corpora": []})
    for name in ("plain", "compiled"):  # dropout draws one number a token: a compiled encoder sees those of padding too
        options = ["--output_dir", str(tmp_path / name), "--training.compile", str(name == "compiled")]
        options += ["--model.unpad", "never"]
        assert main(["--config", str(config), *options]) == 0
    for (_, plain), (_, compiled) in zip(losses(tmp_path / "plain"), losses(tmp_path / "compiled"), strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)


def test_a_launcher_that_started_one_process_instead_of_several_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert main(["--config", str(write_config(tmp_path))]) == 2
    assert "started one" in capsys.readouterr().err


@pytest.mark.slow
def test_a_batch_that_two_processes_do_not_divide_is_refused_by_both(tmp_path: Path) -> None:
    config = write_config(tmp_path, sampling={"batch_size": 15})
    _, output = _finish(_start(TWO, config))
    assert "error: sampling.batch_size is 15" in output
    assert "error (process 1): sampling.batch_size is 15" in output
