"""metrics.jsonl and the averages per kind."""

from __future__ import annotations

import json
from pathlib import Path

from hybatch.training.run.metrics import KindAverages, MetricsFile


def test_going_on_drops_later_steps_and_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1}, {"step": 2}, {"step": 2, "validation": {}}, {"step": 3}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo', encoding="utf-8")
    file = MetricsFile(path, last_step=2)
    file.write({"step": 3, "again": True})
    file.close()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [*lines[:3], {"step": 3, "again": True}]


def test_a_complete_last_line_without_its_line_end_is_not_joined_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}', encoding="utf-8")
    file = MetricsFile(path, last_step=2)
    file.write({"step": 3})
    file.close()
    assert path.read_text(encoding="utf-8") == '{"step": 1}\n{"step": 3}\n'


def test_averages_are_per_kind_and_start_anew_when_taken() -> None:
    averages = KindAverages()
    for kind, loss in (("x-y", 2.0), ("x-x-mono", 1.0), ("x-y", 4.0)):
        averages.add(kind, loss)
    assert averages.take() == {"loss/x-x-mono": 1.0, "loss/x-y": 3.0}
    averages.add("x-y", 5.0)
    assert averages.take() == {"loss/x-y": 5.0}
