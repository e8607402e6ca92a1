"""The grid file of a sweep: what its lines stand for, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.training.config import load_run_config
from study.grid import SAMPLERS, main, read_grid

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "study" / "grids" / "example.txt"
STUDY = ROOT / "study" / "grids" / "study.txt"


def write_grid(folder: Path, text: str) -> Path:
    path = folder / "grid.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_parses_and_its_runs_have_names_of_their_own() -> None:
    runs = read_grid(EXAMPLE)
    assert len({run.name for run in runs}) == len(runs) >= 4
    assert all("/" not in run.name for run in runs)


def test_the_options_of_a_line_give_the_sampler_backbone_and_seed_to_the_training(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "# comment\n\nx-y  org/model  7  # the rival\n")
    (run,) = read_grid(grid)
    config = load_run_config(["--output_dir", "x", "--corpora", "[{path: embedded}]", *run.options])
    assert (config.sampling.kind, config.model.backbone, config.seed) == ("x-y", "org/model", 7)


def test_yaml_files_may_stand_for_the_sampler_and_the_backbone_and_a_dash_for_the_recipes(tmp_path: Path) -> None:
    overlay, backbone = tmp_path / "mine.yaml", tmp_path / "small.yaml"
    overlay.write_text("sampling: {kind: x-x}\n")
    backbone.write_text("model: {fresh: {width: 32}}\n")
    runs = read_grid(write_grid(tmp_path, f"{overlay} {backbone} 0\nhybrid - 0\n"))
    assert runs[0].options == ["--config", str(overlay), "--config", str(backbone), "--seed", "0"]
    assert runs[1].options == ["--config", str(SAMPLERS / "hybrid.yaml"), "--seed", "0"]
    assert [run.name for run in runs] == ["mine--small--seed0", "hybrid--recipe--seed0"]


def test_overlays_win_over_the_sampler_and_the_backbone_and_stand_in_the_name(tmp_path: Path) -> None:
    first, second = tmp_path / "slow.yaml", tmp_path / "dry.yaml"
    first.write_text("sampling: {batch_size: 48, languages: [en]}\n")
    second.write_text("sampling: {batch_size: 64}\nmodel: {backbone: other/model}\n")
    (run,) = read_grid(write_grid(tmp_path, f"x-y org/model 7 {first} {second}\n"))
    assert run.name == "x-y--org_model--slow--dry--seed7"
    config = load_run_config(["--output_dir", "x", "--corpora", "[{path: embedded}]", *run.options])
    assert (config.sampling.kind, config.sampling.batch_size, config.sampling.languages) == ("x-y", 64, ["en"])
    assert (config.model.backbone, config.seed) == ("other/model", 7)


def test_the_study_has_thirty_runs_and_each_third_of_its_core_has_every_sampler_at_both_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    runs = read_grid(STUDY)
    assert len(runs) == 30
    for seed in (1, 2, 3):
        names = {run.name for run in runs[6 * (seed - 1) : 6 * seed]}
        starts, samplers = ("mini-xlmr", "mini-labse"), ("x-x-mono", "x-y", "hybrid")
        assert names == {f"{sampler}--{start}--seed{seed}" for start in starts for sampler in samplers}
    assert runs[-1].name == "hybrid--mini-xlmr--without-el-vi--seed1"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hybrid org/model", "expected SAMPLER BACKBONE SEED [OVERLAY ...], found 2 words"),
        ("hybrid org/model 1 2", "the overlay 2 is no YAML file"),
        ("hybrid org/model 1 nowhere.yaml", "the overlay nowhere.yaml is no YAML file"),
        ("hybird org/model 1", "no sampler 'hybird'"),
        ("nowhere.yaml org/model 1", "no sampler 'nowhere.yaml'"),
        ("hybrid nowhere.yaml 1", "nowhere.yaml does not exist"),
        ("hybrid /nowhere/model 1", "/nowhere/model does not exist"),
        ("hybrid org/model one", "'one' is no whole number"),
        ("hybrid org/model -1", "'-1' is no whole number"),
        ("x-y org/model 3", "a second time"),
    ],
)
def test_a_line_that_does_not_parse_is_named_with_its_file(line: str, words: str, tmp_path: Path) -> None:
    grid = write_grid(tmp_path, f"x-y org/model 3\n{line}\n")
    with pytest.raises(UserError, match=f"{grid}:2: .*") as error:
        read_grid(grid)
    assert words in str(error.value)


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_grid(write_grid(tmp_path, "hybrid\nhybrid - 1\nx-y - x\n"))
    assert "grid.txt:1:" in str(error.value)
    assert "grid.txt:3:" in str(error.value)


@pytest.mark.parametrize("content", ["", "# nothing but this\n"])
def test_a_grid_without_runs_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no run"):
        read_grid(write_grid(tmp_path, content))


def test_a_file_that_is_missing_or_an_index_outside_the_grid_ends_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["count", str(tmp_path / "none.txt")]) == 2
    assert "none.txt" in capsys.readouterr().err
    assert main(["options", str(write_grid(tmp_path, "hybrid - 1\n")), "2"]) == 2
    assert "1 to 1, not 2" in capsys.readouterr().err


def test_as_a_program_it_prints_for_a_shell(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, "hybrid - 1\nx-y - 2\n")

    def printed(*arguments: str) -> list[str]:
        command = [sys.executable, "study/grid.py", *arguments]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()

    assert printed("count", str(grid)) == ["2"]
    assert printed("names", str(grid)) == ["hybrid--recipe--seed1", "x-y--recipe--seed2"]
    assert printed("options", str(grid), "2")[-2:] == ["--seed", "2"]
