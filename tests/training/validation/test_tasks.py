"""Tasks are measured during a run as `hybatch evaluate` measures them after it, and may choose the best encoder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.train import main
from hybatch.training.config import TASK_FIGURES, TaskConfig, ValidationConfig
from tests.training.small_run import read_metrics, write_config, write_corpus

TASK = {"task": "embedded", "languages": ["de", "en"]}


def _run(folder: Path, *more: str, tasks: list[dict[str, Any]], **validation: Any) -> list[dict[str, Any]]:
    """The lines of validations of a short run."""
    short = {"steps": 4, "checkpoint_every_steps": 2}
    config = write_config(folder, training=short, validation={"every_steps": 2, "tasks": tasks, **validation})
    assert main(["--config", str(config), *more]) == 0
    return [row for row in read_metrics(folder / "run") if "validation" in row]


def test_what_a_run_measures_is_what_hybatch_evaluate_gives(tmp_path: Path) -> None:
    rows = _run(tmp_path, tasks=[TASK | {"metric": "monolingual.recall@10"}], corpora=[], metric="embedded")
    assert [row["step"] for row in rows] == [2, 4]
    folder = tmp_path / "run" / "final"
    later = evaluate(["--model", str(folder), "--task", "embedded", "--languages", "de", "en", "--device", "cpu"])
    summary = later.results["summary"]
    expected = {
        f"embedded/{setting}/{metric}": summary[setting][metric]
        for setting, metric in (figure.split(".") for figure in TASK_FIGURES)
    }
    assert rows[1]["validation"] == {"selection": summary["monolingual"]["recall@10"]} | expected
    assert (tmp_path / "run" / "best").is_dir()


def test_each_task_has_its_own_rhythm_and_one_figure_chooses(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "parallel", first=140, examples=20)
    tasks = [
        TASK | {"every_steps": 3},
        {"task": "parallel", "data_dir": str(data), "metric": "multilingual.rank_distance"},
    ]
    rows = _run(tmp_path, tasks=tasks, metric="parallel")
    measured = {row["step"]: {name.partition("/")[0] for name in row["validation"]} for row in rows}
    assert measured == {
        2: {"loss", "parallel", "selection"},
        3: {"embedded"},
        4: {"loss", "parallel", "embedded", "selection"},
    }
    for row in rows:
        values = row["validation"]
        assert values.get("selection") == values.get("parallel/multilingual/rank_distance")
    # A run that goes on measures what it would have measured.
    for folder in ("final", "checkpoints/step-00000004"):
        shutil.rmtree(tmp_path / "run" / folder)
    assert _run(tmp_path, tasks=tasks, metric="parallel") == rows


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"task": "xquadr"}, r"validation\.tasks\.0: --task xquadr: no such task"),
        ({"task": "xquad-r", "data_dir": "NOWHERE"}, r"validation\.tasks\.0: .*nowhere: no such folder"),
        (TASK | {"languages": ["de", "xx"]}, r"validation\.tasks\.0: --languages xx: not in task embedded"),
        (TASK | {"languages": ["de"], "metric": "cross_lingual.map"}, r"validation\.tasks\.0: .* has one language"),
        ({"task": "tatoeba", "data_dir": "SENTENCES"}, r"not scored in every language setting"),
    ],
)
def test_a_task_that_cannot_be_measured_ends_the_run_before_its_encoder_is_built(
    task: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("hybatch.training.run.assembly.build_run_encoder", None)
    places = {"NOWHERE": tmp_path / "nowhere", "SENTENCES": Path(__file__).parents[2] / "written_before" / "sentences"}
    if "data_dir" in task:
        task = task | {"data_dir": str(places[task["data_dir"]])}
    config = write_config(tmp_path, validation={"tasks": [task]})
    assert main(["--config", str(config)]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_a_choice_by_what_is_not_measured_is_refused() -> None:
    tasks = [TaskConfig(task="embedded")]
    with pytest.raises(UserError, match=r"validation\.metric is 'xquad-r': it must be one of loss, map, embedded"):
        ValidationConfig(tasks=tasks, metric="xquad-r")
    with pytest.raises(UserError, match=r"validation\.patience needs held-out data"):
        ValidationConfig(tasks=tasks, patience=2)
    with pytest.raises(UserError, match=r"validation\.tasks names a task twice"):
        ValidationConfig(tasks=tasks * 2)
    with pytest.raises(UserError, match=r"validation\.tasks\.metric is 'map'"):
        TaskConfig(task="embedded", metric="map")
    assert ValidationConfig(tasks=tasks, metric="embedded", patience=2).metric == "embedded"
