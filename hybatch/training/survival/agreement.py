"""Whether all processes of a run do the same thing.

Processes that disagree on the step or the batch do not crash: their gathered losses and averaged gradients are those
of no batch at all, and the curve looks almost right. So they compare notes at the start and at every checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hybatch
from hybatch.errors import UserError
from hybatch.processes import gather_objects
from hybatch.sampling import GlobalBatch
from hybatch.training.config import RunConfig
from hybatch.training.flat import flatten

# Machines may keep their own copies of the data; corpora are compared by content.
_LOCAL = re.compile(r"(validation\.)?corpora\.\d+\.path")


def check_agreement(facts: Mapping[str, Any], when: str) -> None:
    """Compare this process's facts with those of all others; collective.

    Args:
        facts: small picklable values by name.
        when: for the message, e.g. "at the start".

    Raises:
        UserError: on every process, naming what differs and on which processes.
    """
    everyones = gather_objects(dict(facts))
    names = dict.fromkeys(name for theirs in everyones for name in theirs)
    lines = []
    for name in names:
        values = [theirs.get(name) for theirs in everyones]
        others = [f"{value!r} on process {i}" for i, value in enumerate(values) if value != values[0]]
        if others:
            lines.append(f"{name}: {values[0]!r} on process 0, {', '.join(others)}")
    if lines:
        raise UserError(f"the processes do not agree {when}:\n  " + "\n  ".join(lines))


def facts_at_start(config: RunConfig, versions: Mapping[str, str]) -> dict[str, Any]:
    """The configuration, the code and the libraries of this process."""
    facts = {name: value for name, value in flatten(config.as_dict()).items() if not _LOCAL.fullmatch(name)}
    return facts | dict(versions) | {"code of hybatch": _code_digest()}


def facts_of_batch(batch: GlobalBatch) -> dict[str, Any]:
    """What this process trains on in a step."""
    members = hashlib.sha256()
    for array in (batch.examples, batch.question_languages, batch.passage_languages):
        members.update(array.tobytes())
    return {
        "step": batch.step + 1,
        "batch kind": batch.kind,
        "data set": batch.dataset,
        "language": batch.language,
        "examples of the batch": members.hexdigest()[:12],
    }


def _code_digest() -> str:
    """Of the package's Python files: two machines may hold different checkouts of the same version."""
    root = Path(hybatch.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
