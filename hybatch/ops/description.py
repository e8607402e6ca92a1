"""Which backend each op will use, and why: the lines of `hybatch env`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hybatch.ops.backend import (
    ENVIRONMENT_VARIABLE,
    BackendError,
    candidates_for_auto,
    choose_backend,
    forced_backend,
    why_missing,
)
from hybatch.ops.contrastive.trials import CONTRASTIVE_TERMS, INFO_NCE
from hybatch.ops.trial import Figures, Trial, remembered


class Op(NamedTuple):
    """An op that people call."""

    family: str
    """What a backend must have to serve it, one of `FAMILIES`."""
    trial: Trial | None
    """By what `auto` chooses on the CPU; None: the compiled backend wherever there is one."""


OPS = {
    "rank_counts": Op("ranking", None),
    "info_nce": Op("contrastive", INFO_NCE),
    "contrastive_terms": Op("contrastive", CONTRASTIVE_TERMS),
}
"""By name. An op whose backends take turns at being the fastest joins with a trial of its own."""


class BackendChoice(NamedTuple):
    """One line of `hybatch env`."""

    op: str
    """Name of the op and the kind of tensors."""
    backend: str
    """What will run: torch, cpu, blas, cuda or none."""
    reason: str
    """By which figures, or why not a faster one."""


def describe() -> list[BackendChoice]:
    """For each op and kind of device: the backend that will be used, and why."""
    return [_describe(name, op, device) for name, op in OPS.items() for device in ("cpu", "cuda")]


def _describe(name: str, op: Op, device: str) -> BackendChoice:
    label = f"{name}, {device} tensors"
    missing = why_missing(device, op.family)
    if device == "cuda" and not torch.cuda.is_available():
        return BackendChoice(label, "none", str(missing))
    try:
        backend = choose_backend(torch.device(device), family=op.family, trial=op.trial)
    except (BackendError, ValueError) as error:
        return BackendChoice(label, "none", str(error))
    forced = forced_backend(op.family)
    if op.trial is not None and forced is None:
        figures = remembered(op.trial, candidates_for_auto(torch.device(device), op.family))
        if figures is not None:
            return BackendChoice(label, backend, _by_figures(op.trial, figures))
    if backend == device:
        return BackendChoice(label, backend, "the fastest there is")
    if not forced and missing is None:
        return BackendChoice(label, backend, f"the {device} kernels are for those who ask for them by name")
    return BackendChoice(label, backend, missing or f"{ENVIRONMENT_VARIABLE}={forced} asks for it")


def _by_figures(trial: Trial, figures: Figures) -> str:
    times = ", ".join(f"{backend} {1000 * seconds:.2f} ms" for backend, seconds in figures.seconds.items())
    threads = f"{figures.threads} thread{'s' if figures.threads > 1 else ''}"
    busy = "" if figures.clear else "; the machine was too busy to tell, and the first is taken"
    return f"{times} ({trial.problem}, {threads}, measured {figures.measured} UTC{busy})"
