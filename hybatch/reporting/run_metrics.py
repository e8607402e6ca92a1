"""metrics.jsonl of a training run: one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybatch.errors import UserError

METRICS = "metrics.jsonl"


def read_metrics(path: Path) -> tuple[dict[str, Any], ...]:
    """The rows in the order written, but for half a last line: the run is writing it, or was killed while it did.

    Raises:
        UserError: it cannot be read, or a line is no JSON object or has a step that is no whole number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected the metrics of a training run") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line.strip())
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UserError(f"{path}:{number}: malformed JSON ({error}); expected one object per line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not an object; expected the metrics of a training run")
        step = row.get("step", 0)
        if not isinstance(step, int) or isinstance(step, bool) or abs(step) >= 2**53:
            raise UserError(f"{path}:{number}: 'step' is {step!r}; expected a whole number")
        rows.append(row)
    return tuple(rows)
