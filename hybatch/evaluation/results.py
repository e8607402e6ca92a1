"""results.json and timings.json: what an evaluation leaves on disk.

results.json depends on the model, the task and the library versions alone; everything about the run (seconds,
processes, threads, device, date) is in timings.json.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.files import HALF_A_PAIR
from hybatch.evaluation.settings.per_query import PER_QUERY, QueryTables, write_query_tables
from hybatch.models import Role
from hybatch.paths import check_writable
from hybatch.version import __version__

RESULTS = "results.json"
TIMINGS = "timings.json"
_LONGEST_SHOWN = 200


def json_text(value: Any, **options: Any) -> str:
    """JSON that UTF-8 can hold: text as it is, but half a surrogate pair, which is no text, as it is escaped in JSON.

    Such halves come from JSON files that cut a text in two, and from paths that are not UTF-8.

    Args:
        options: of json.dumps.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    return HALF_A_PAIR.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def dump(value: Any) -> str:
    """JSON text with sorted keys and the shortest exact floats: equal values give equal bytes."""
    return json_text(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
    """What computed the figures, for results.json."""
    return {
        "hybatch": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def read_any_results(path: Path) -> dict[str, Any]:
    """Read one results.json, whatever the task: its settings are in "pairs" and "multilingual", or in "figures".

    Raises:
        UserError: it is missing or not the result of `hybatch evaluate`.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: malformed JSON ({error}); expected the results of hybatch evaluate") from error
    needed = {"task", "model", "languages", "summary"}
    if not (isinstance(results, dict) and "figures" in results):
        needed |= {"pairs", "multilingual"}
    lacking = needed - results.keys() if isinstance(results, dict) else needed
    if lacking:
        raise UserError(f"{path}: not the results of hybatch evaluate (it lacks {', '.join(sorted(lacking))})")
    return results


def check_output(
    directory: Path,
    *,
    task: str,
    model: str,
    languages: list[str],
    overwrite: bool,
    measured: Mapping[str, Any] | None = None,
    prefixes: Mapping[Role, str] | None = None,
    precision: str | None = None,
    vectors: Mapping[str, Any] | None = None,
) -> None:
    """Refuse an output folder that cannot be used, before the encoding begins.

    Results of the same model, prefixes, precision and vectors on the same task, languages and data, measured in the
    same way, may be replaced; anything else needs `overwrite`.

    Args:
        measured: what else decides the figures, under the names that results have for it: the data, the search. Results
            without one of them, from before it was written or of tasks that do not know it, are taken for the same; but
            without "debias" nothing was taken out.
        prefixes: those given in the place of the model's own.
        precision: of the encoder, where results name it.
        vectors: what is asked of the "vectors" of results; None where results have none.

    Raises:
        UserError: the folder holds other results, is a file, or cannot be written.
    """
    check_writable(directory, "--output")
    path = directory / RESULTS
    if overwrite or not path.exists():
        return
    mend = "choose another --output, or give --overwrite to replace it"
    try:
        found = read_any_results(path)
    except UserError as error:
        raise UserError(f"--output {directory}: holds a {RESULTS} of something else ({error}); {mend}") from error
    asked: dict[str, Any] = {"task": task, "model": model, "languages": languages}
    asked |= {"prefixes": prefixes or None, "precision": precision, "vectors": vectors}
    asked |= {key: value for key, value in (measured or {}).items() if key in found or key == "debias"}
    for key in ("vectors", "debias"):  # which results say more of
        if isinstance(asked.get(key), Mapping) and isinstance(found.get(key), dict):
            found[key] = {name: found[key].get(name) for name in asked[key]}
    other = [
        f"{key} {_shown(found.get(key))}, not {_shown(value)}"
        for key, value in asked.items()
        if found.get(key) != value
    ]
    if other:
        raise UserError(f"--output {directory}: holds the results of {'; '.join(other)}; {mend}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def write_results(
    directory: Path, results: dict[str, Any], timings: dict[str, Any], per_query: QueryTables | None = None
) -> None:
    """Write the files, per_query.npz where it is given; each replaces its forerunner whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    try:
        if per_query:
            write_query_tables(directory / PER_QUERY, per_query)
        for name, value in ((TIMINGS, timings), (RESULTS, results)):
            with atomic_file(directory / name) as file:
                file.write(dump(value))
    except OSError as error:
        raise UserError(f"{directory}: cannot write the results ({error.strerror or error})") from error
