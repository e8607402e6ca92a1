"""A run on questions that have several positives: chunked or whole the same, and what it does not go together with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.train import main
from hybatch.training.config import load_run_config
from hybatch.training.run.assembly import open_corpora
from tests.training.small_run import losses, write_config


def _config(folder: Path, **sections: Any) -> Path:
    """Every second example has two positives beside its passage, and every one a hard negative."""
    model = {"fresh": {"width": 16, "layers": 1, "heads": 2, "vocabulary_size": 400, "dropout": 0.0}}
    config = write_config(folder, model=model, training={"steps": 4, "checkpoint_every_steps": 4}, **sections)
    for path in (folder / "train").glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["negatives"] = [f"{rows[number - 1]['passage']} !"]
            if number % 2:
                row["positives"] = [{"text": f"{row['passage']} {k}", "score": k} for k in (1, 2)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return config


def test_chunks_change_nothing_and_the_forms_differ(tmp_path: Path) -> None:
    config = ["--config", str(_config(tmp_path, loss={"temperature": 0.05, "hard_negatives": 1}))]
    runs: dict[str, list[str]] = {
        "mean": [],
        "chunks": ["--training.chunk_size", "5"],
        "log-sum": ["--loss.positives", "log-sum"],
        "one": ["--loss.positives", "one"],
    }
    found = {}
    for name, options in runs.items():
        assert main([*config, *options, "--output_dir", str(tmp_path / name)]) == 0
        found[name] = [loss for _, loss in losses(tmp_path / name)]
    assert found["chunks"] == pytest.approx(found["mean"], rel=1e-4)
    first = [found[name][0] for name in ("mean", "log-sum", "one")]
    assert len({round(loss, 4) for loss in first}) == 3


@pytest.mark.parametrize(
    ("option", "loss"),
    [
        ("loss.guide", {"filter": {"by": "guide"}, "guide": "some/model"}),
        ("loss.teacher", {"teacher": {"kind": "kl"}}),
    ],
)
def test_a_guide_and_a_teacher_are_refused_which_know_passages_alone(
    tmp_path: Path, option: str, loss: dict[str, Any]
) -> None:
    config = _config(tmp_path, loss={"hard_negatives": 1, **loss})
    with pytest.raises(UserError, match=f"{option} goes by passages and hard negatives alone, but train lists several"):
        open_corpora(load_run_config(["--config", str(config)]), progress=False)
