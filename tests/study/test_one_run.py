"""What a run's stages say of themselves, and what a kill between them leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hybatch.evaluation.tasks.tatoeba import XTREME_LANGUAGES
from hybatch.training.run.run_folder import RunFolder
from study.children import Children
from study.grid import read_grid
from study.one_run import LANGUAGES, duration, finish_run, plan_run, remaining
from tests.study.tiny_study import ROOT, TinyStudy


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_tatoeba_is_evaluated_in_languages_that_it_has() -> None:
    assert set(LANGUAGES["tatoeba"]) <= set(XTREME_LANGUAGES)
    assert len(LANGUAGES["tatoeba"]) == 10


def test_each_recipe_is_laid_over_those_before_and_the_line_over_all(
    planned_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = planned_study.inputs_in(tmp_path / "study")
    study.enter(monkeypatch)
    first, second = Path("first.yaml"), Path("second.yaml")
    first.write_text("seed: 7\ntraining: {learning_rate: 0.5, epsilon: 1.0e-3}\n", encoding="utf-8")
    second.write_text("training: {learning_rate: 0.25}\n", encoding="utf-8")
    line = read_grid(Path("grid.txt"))[0]
    places = (Path("runs"), Path("results"), ["embedded"])
    plain = plan_run(line, [Path("config.yaml")], *places).config
    config = plan_run(line, [Path("config.yaml"), first, second], *places).config
    assert config.training == replace(plain.training, learning_rate=0.25, epsilon=1e-3)
    assert config.seed == plain.seed == line.seed


def test_the_recipe_for_other_processors_changes_the_precision_alone(
    planned_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = planned_study.inputs_in(tmp_path / "study")
    study.enter(monkeypatch)
    monkeypatch.setenv("HYBATCH_DATA_DIR", str(tmp_path))
    recipes = ROOT / "study" / "recipes"
    line = read_grid(Path("grid.txt"))[0]
    places = (Path("runs"), Path("results"), ["xquad-r"])
    plain = plan_run(line, [recipes / "recipe-pretrained.yaml"], *places).config
    config = plan_run(line, [recipes / "recipe-pretrained.yaml", recipes / "float32.yaml"], *places).config
    assert plain.training.mixed_precision == "bf16"
    assert config == replace(plain, training=replace(plain.training, mixed_precision="no"))


class _KilledError(Exception):
    """Stands for SIGKILL."""


def test_a_kill_while_an_outdated_run_is_removed_leaves_a_run_that_begins_anew(
    planned_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = planned_study.inputs_in(tmp_path / "study")
    study.enter(monkeypatch)
    run = plan_run(read_grid(Path("grid.txt"))[0], [Path("config.yaml")], Path("runs"), Path("results"), ["embedded"])
    (run.folder / "final").mkdir(parents=True)
    (run.folder / "config.yaml").write_text("{seed: 5}", encoding="utf-8")
    left = remaining(run)
    assert left.outdated

    def remove_one_file(folder: Path, ignore_errors: bool = False) -> None:
        if folder.exists():
            (folder / "config.yaml").unlink()
            raise _KilledError

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", remove_one_file)
        with Children() as children, pytest.raises(_KilledError):
            finish_run(run, left, children, lambda line: None, lock=0)
    assert not RunFolder(run.config).is_finished
    assert not run.folder.exists()
    left = remaining(run)
    assert left.training
    assert left.tasks == ["embedded"]
