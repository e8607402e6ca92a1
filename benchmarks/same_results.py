"""Compares two folders of `hybatch evaluate`: every figure must be the same, whatever backend made it.

python benchmarks/same_results.py ONE OTHER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key not in ("backend", "versions")}


def differences(one: Path, other: Path) -> list[str]:
    mine, theirs = results(one), results(other)
    different = [
        f"results.json: {key}" for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)
    ]
    arrays = [np.load(folder / "per_query.npz") for folder in (one, other)]
    names = sorted({name for array in arrays for name in array.files})
    for name in names:
        if not all(name in array.files for array in arrays) or not np.array_equal(
            arrays[0][name], arrays[1][name], equal_nan=arrays[0][name].dtype.kind == "f"
        ):
            different.append(f"per_query.npz: {name}")
    return different


def main() -> int:
    one, other = map(Path, sys.argv[1:])
    different = differences(one, other)
    backends = [json.loads((folder / "results.json").read_text(encoding="utf-8"))["backend"] for folder in (one, other)]
    print(f"backends {' and '.join(backends)}: {', '.join(different) or 'all figures are equal'}")
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
