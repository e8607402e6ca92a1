"""The training benchmark, small: all contenders are trained on the same batches, or their losses would differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_training.py"


@pytest.mark.slow
def test_all_contenders_end_at_the_same_loss(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    sizes = ["--batch-size", "16", "--chunk-size", "8", "--layers", "1", "--width", "32", "--vocabulary", "2000"]
    sizes += ["--steps", "4", "--rounds", "1", "--max-length", "64"]
    subprocess.run([sys.executable, str(SCRIPT), *sizes, "--json", str(output)], check=True, capture_output=True)
    figures = json.loads(output.read_text(encoding="utf-8"))
    losses = [row["held_out_loss"] for row in figures["rows"]]
    assert len(losses) == 8
    assert max(losses) - min(losses) < 1e-4 < abs(losses[0] - figures["initial_loss"])
    assert all(row["examples_per_second"]["p50"] > 0 for row in figures["rows"])
    assert output.with_suffix(".md").read_text(encoding="utf-8").count("| hybatch") == 4
    assert output.with_suffix(".png").stat().st_size > 1000
