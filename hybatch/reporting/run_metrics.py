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
        UserError: it cannot be read, or a line is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected the metrics of a training run") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line.strip())
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UserError(f"{path}:{number}: malformed JSON ({error}); expected one object per line") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not an object; expected the metrics of a training run")
        rows.append(row)
    return tuple(rows)
