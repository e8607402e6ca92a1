"""Tasks of mteb by name, with what can be wrong about them said before any work."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from hybatch.errors import UserError


def import_mteb() -> Any:
    """The package mteb.

    Raises:
        UserError: it is not installed.
    """
    try:
        import mteb
    except ImportError as error:
        raise UserError("hybatch mteb: mteb is not installed; pip install 'hybatch[mteb]'") from error
    return mteb


def find_tasks(names: Sequence[str], languages: Sequence[str] | None) -> list[Any]:
    """mteb's tasks in the order named, each once, cut down to the languages.

    Args:
        languages: ISO 639-3 codes, with or without a script (swh, swh-Latn); a subset that has any of them stays.

    Raises:
        UserError: a task is unknown (with names like it), made of other tasks, not about texts, or has none of the
            languages.
    """
    mteb = import_mteb()
    return [_find_task(mteb, name, languages) for name in dict.fromkeys(names)]


def _find_task(mteb: Any, name: str, languages: Sequence[str] | None) -> Any:
    try:
        task = mteb.get_task(name, languages=languages)
    except KeyError as error:
        raise UserError(f"--tasks {name}: mteb has no such task{_near(mteb, name)}") from error
    except ValueError as error:
        raise UserError(
            f"--tasks {name} --languages {' '.join(languages or [])}: not ISO 639-3 codes, or none of the task's "
            f"languages, which are {' '.join(sorted(set(mteb.get_task(name).metadata.languages)))}"
        ) from error
    if task.is_aggregate:
        parts = " ".join(part.metadata.name for part in task.metadata.tasks)
        raise UserError(f"--tasks {name}: is the mean of other tasks; name those: {parts}")
    if set(task.metadata.modalities) != {"text"}:
        raise UserError(f"--tasks {name}: asks for {' and '.join(task.metadata.modalities)}; the encoder reads texts")
    return task


def _near(mteb: Any, name: str) -> str:
    names = {task.metadata.name.lower(): task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)}
    near = difflib.get_close_matches(name.lower(), names, n=3)
    return f"; did you mean {' or '.join(names[one] for one in near)}?" if near else ""
