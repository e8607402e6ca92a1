"""What `auto` stands for on this machine and in this run: figures kept in the cache folder, one answer for all
processes, and for a run that goes on the one it began with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.ops.backend import (
    ENVIRONMENT_VARIABLE,
    BackendError,
    candidates_for_auto,
    choose_backend,
    forced_backend,
    library_stamps,
    usable_backends,
    why_missing,
)
from hybatch.ops.description import OPS
from hybatch.ops.processor import processor_facts
from hybatch.ops.trial import Figures, Trial, figures_of, remember, remembered
from hybatch.paths import cache_directory
from hybatch.processes import fail_together, gather_objects, run_on_main
from hybatch.version import __version__

_BEFORE_TRIALS = ("cpu", "torch")
"""What a run can have begun with before there were trials: the first of these that was there."""
MEASURED = {name: op.trial for name, op in OPS.items() if op.trial is not None}
"""Trials by the name of their op."""


def agree_on_backends(device: torch.device, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Choose the backend of every op in `MEASURED` for all processes, for `hybatch.ops.backend.agreed`; collective.

    The first process decides: by its HYBATCH_BACKEND, else by what the run began with, else by its figures. Only what
    every process can use is chosen, as long as nothing else is named.

    Args:
        device: of this process's embeddings.
        before: what the run began with, by op; an op that is not in it had no trial then, and ran on the first backend
            that was there. None for a run that begins now.

    Raises:
        UserError: on every process: HYBATCH_BACKEND names none, or one that a process does not have.
    """
    usable = gather_objects({name: usable_backends(device, OPS[name].family) for name in MEASURED})

    def decide() -> dict[str, str]:
        return {name: _decide(name, device, before, [theirs[name] for theirs in usable]) for name in MEASURED}

    chosen = run_on_main(decide)
    problems = [_problem(backend, OPS[name].family, device) for name, backend in chosen.items()]
    fail_together(next((problem for problem in problems if problem is not None), None))
    return chosen


def recall_figures(trial: Trial, backends: Sequence[str]) -> Figures:
    """Let `auto` decide by the figures that the cache folder holds, or measure now and keep them there.

    A file that cannot be read or written, or that is damaged, costs a measurement and nothing else. Figures of a
    machine that was too busy to tell are not kept.
    """
    found = remembered(trial, backends)
    if found is not None:
        return found
    path = _figures_path(trial, backends)
    kept = _read(path, backends) if path is not None else None
    if kept is not None:
        remember(trial, backends, kept)
        return kept
    figures = figures_of(trial, backends)
    if path is not None and figures.clear:
        with suppress(OSError), atomic_file(path) as file:
            file.write(json.dumps(asdict(figures) | {"conditions": _conditions(trial, backends)}, indent=1) + "\n")
    return figures


def recall_all_figures() -> None:
    """`recall_figures` for every op that `auto` would choose by them on the CPU."""
    for name, trial in MEASURED.items():
        if forced_backend(OPS[name].family) is not None:
            continue
        candidates = candidates_for_auto(torch.device("cpu"), OPS[name].family)
        if len(candidates) > 1:
            recall_figures(trial, candidates)


def _decide(name: str, device: torch.device, before: Mapping[str, str] | None, usable: Sequence[Sequence[str]]) -> str:
    family, trial = OPS[name].family, MEASURED[name]
    if forced_backend(family) is not None:
        try:
            return choose_backend(device, family=family)
        except (BackendError, ValueError) as error:
            raise UserError(str(error)) from error
    shared = [one for one in usable[0] if all(one in theirs for theirs in usable)]
    if before is not None and before.get(name) in shared:
        return before[name]
    candidates = [one for one in candidates_for_auto(device, family) if one in shared]
    if before is not None and name not in before:
        return next(one for one in candidates if one in _BEFORE_TRIALS)
    if len(candidates) == 1 or device.type != "cpu":
        return candidates[0]
    return recall_figures(trial, candidates).fastest()


def _problem(backend: str, family: str, device: torch.device) -> str | None:
    reason = why_missing(backend, family, device)
    return None if reason is None else f"{ENVIRONMENT_VARIABLE}={backend}: this backend is missing: {reason}"


def _conditions(trial: Trial, backends: Sequence[str]) -> dict[str, Any]:
    """What figures hold for."""
    return {
        "op": trial.op,
        "problem": trial.problem,
        "backends": list(backends),
        "libraries": library_stamps(backends),
        "instruction set": os.environ.get("HYBATCH_CPU_ISA", ""),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "hybatch": __version__},
        "processor": processor_facts(),
    }


def _figures_path(trial: Trial, backends: Sequence[str]) -> Path | None:
    """None where there is no home to have a cache folder in."""
    digest = hashlib.sha256(json.dumps(_conditions(trial, backends), sort_keys=True).encode()).hexdigest()[:16]
    try:
        return cache_directory() / "backends" / f"{trial.op}-{digest}.json"
    except RuntimeError:
        return None


def _read(path: Path, backends: Sequence[str]) -> Figures | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        seconds = {backend: float(told["seconds"][backend]) for backend in backends}
        figures = Figures(seconds, bool(told["clear"]), str(told["measured"]), int(told["threads"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return figures if all(0 < taken < float("inf") for taken in seconds.values()) else None
