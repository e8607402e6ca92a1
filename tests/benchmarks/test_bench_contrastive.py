"""The contrastive benchmark writes its figures, table and plot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_contrastive.py"


def test_every_contender_is_timed_against_the_products(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    work = ["forward", "forward + backward, symmetric"]
    options = ["--sizes", "64", "--width", "8", "--rounds", "1", "--device", "cpu", "--what", *work]
    subprocess.run([sys.executable, str(SCRIPT), "--json", str(path), *options], check=True, cwd=SCRIPT.parents[1])
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    for what in work:
        names = [row["name"] for row in rows if row["what"] == what]
        assert {"dense PyTorch", "hybatch torch (streaming)"} < set(names)
        assert all(row["ratio"] > 0 for row in rows if "product" not in row["name"])
    assert "| 64 | forward | dense PyTorch |" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert path.with_suffix(".png").stat().st_size > 0
