"""Which implementation of an op runs: `torch` (pure PyTorch), `cpu` (C++) or `cuda`, and why not a faster one.

The compiled libraries are optional. They are looked for beside the package, loaded once on first use, and what is
wrong with them is kept, word for word, for the error that names a missing backend and for `hybatch env`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from hybatch.ops.fakes import register_contrastive_fakes, register_ranking_fakes
from hybatch.ops.trial import Trial, figures_of

BACKENDS = ("torch", "cpu", "cuda")
ENVIRONMENT_VARIABLE = "HYBATCH_BACKEND"
_PACKAGE = Path(__file__).resolve().parent.parent
FAMILIES = {
    "ranking": ("pair_scores", "count_above_"),
    "contrastive": ("contrastive_forward", "contrastive_backward", "contrastive_forward_backward"),
}
"""Ops that a backend must have all of, to serve what is built on them."""
_COMPILED_FOR_ONE = {("cpu", "ranking"): ("count_and_keep_",)}
"""Ops that one backend must have besides; the others make do with those of the family."""
_BUILT_WITH = {"cpu": "a C++ compiler or an installed torch", "cuda": "nvcc or a torch with CUDA"}
"""What setup.py needs for each library."""
_NEVER_RUN = {("cuda", "contrastive")}
"""Kernels that no GPU has run yet, only a compiler: chosen when they are asked for by name, never by `auto`."""
_OLDEST_CAPABILITY = (8, 0)
"""The first compute capability of GPUs that the CUDA library holds code for, as setup.py builds it."""


class BackendError(RuntimeError):
    """The backend that was asked for is not there; the message says why."""


_agreed: dict[str, str] = {}
"""Backend by op, while `agreed` holds."""


def choose_backend(
    device: torch.device, requested: str = "auto", family: str = "ranking", trial: Trial | None = None
) -> str:
    """Name the backend that serves tensors on `device` with the ops of `family`, one of `FAMILIES`.

    `requested` wins over what the processes agreed on, which wins over HYBATCH_BACKEND. If all leave it open, it is the
    backend that was fastest in the trial, or without one the first that is there and known to work.

    Args:
        trial: of the op; None where there is nothing to measure.

    Raises:
        ValueError: no backend of that name, or one that cannot serve the device.
        BackendError: the backend is missing; the message says why.
    """
    source = f"backend={requested!r}"
    if requested == "auto" and trial is not None and trial.op in _agreed:
        requested = _agreed[trial.op]
        source = f"{trial.op} on {requested}, as the processes agreed"
    if requested == "auto":
        requested = forced_backend() or "auto"
        source = f"{ENVIRONMENT_VARIABLE}={requested}"
    if requested == "auto":
        candidates = candidates_for_auto(device, family)
        if trial is None or device.type != "cpu" or len(candidates) == 1:
            return candidates[0]
        return figures_of(trial, candidates).fastest()
    if requested not in BACKENDS:
        raise ValueError(f"{source}: no such backend; choose from auto, {', '.join(BACKENDS)}")
    reason = why_missing(requested, family, device)
    if reason is not None:
        raise BackendError(f"{source}: this backend is missing: {reason}")
    if requested not in ("torch", device.type):
        raise ValueError(f"{source}: this backend needs tensors on {requested}; queries are on {device}")
    return requested


def forced_backend() -> str | None:
    """What HYBATCH_BACKEND asks for, if it does."""
    forced = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    return None if forced == "auto" else forced


def candidates_for_auto(device: torch.device, family: str) -> tuple[str, ...]:
    """The backends that `auto` may choose for tensors on `device`, the preferred one first."""
    return tuple(one for one in usable_backends(device, family) if (one, family) not in _NEVER_RUN)


def usable_backends(device: torch.device, family: str) -> tuple[str, ...]:
    """The backends that can serve tensors on `device` with the ops of `family`, compiled ones first."""
    compiled = [one for one in BACKENDS if one == device.type and why_missing(one, family, device) is None]
    return (*compiled, "torch")


@contextmanager
def agreed(backends: Mapping[str, str]) -> Iterator[None]:
    """Let `auto` stand for these within the block, by op, as the processes of a run have agreed."""
    before = dict(_agreed)
    _agreed.update(backends)
    try:
        yield
    finally:
        _agreed.clear()
        _agreed.update(before)


def why_missing(backend: str, family: str = "ranking", device: torch.device | None = None) -> str | None:
    """None if the backend can be used here for the ops of `family`, else the reason why not.

    Of several GPUs it speaks of `device` where that is one, else of the current one.
    """
    if backend == "torch":
        return None
    reason = _load(backend)
    if reason is None and backend == "cuda":
        reason = _why_too_old(device if device is not None and device.type == "cuda" else torch.device("cuda"))
    needed = (*FAMILIES[family], *_COMPILED_FOR_ONE.get((backend, family), ()))
    absent = [] if reason else [op for op in needed if not _has_kernel(op, backend)]
    if absent:
        library = _PACKAGE / f"_{backend}.so"
        reason = f"{library} holds no {backend} kernel for {', '.join(absent)}: it was built from another version"
    return reason


def library_stamps(backends: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of the library of each compiled backend that has one: another build, other figures."""
    files = {backend: _PACKAGE / f"_{backend}.so" for backend in backends}
    states = {backend: file.stat() for backend, file in files.items() if file.exists()}
    return {backend: (state.st_size, state.st_mtime_ns) for backend, state in states.items()}


@functools.cache
def _load(backend: str) -> str | None:
    """Load the library of a compiled backend, once; None, or what is wrong."""
    if backend == "cuda":
        if torch.version.cuda is None:
            return f"torch {torch.__version__} is built without CUDA"
        if not torch.cuda.is_available():
            return "torch finds no CUDA device"
        schemas_missing = _load("cpu")  # that library defines the schemas of both
        if schemas_missing is not None:
            return schemas_missing
    library = _PACKAGE / f"_{backend}.so"
    if not library.exists():
        return (
            f"{library} is not there: the extension was not compiled for {backend} when hybatch was installed, for "
            f"want of {_BUILT_WITH[backend]}; with that at hand, install again: pip install --no-build-isolation ."
        )
    try:
        torch.ops.load_library(str(library))
    except OSError as error:
        return f"{library} failed to load: {error}"
    _register_fakes()
    return None


def _why_too_old(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability >= _OLDEST_CAPABILITY:
        return None
    name = torch.cuda.get_device_name(device)
    found, oldest = (".".join(map(str, version)) for version in (capability, _OLDEST_CAPABILITY))
    return f"{name} has compute capability {found}; the compiled kernels need {oldest} or later"


def _has_kernel(op: str, backend: str) -> bool:
    name = f"hybatch::{op}"
    return hasattr(torch.ops.hybatch, op) and torch._C._dispatch_has_kernel_for_dispatch_key(name, backend.upper())


@functools.cache
def _register_fakes() -> None:
    """Tell torch.compile the shapes that the compiled ops return."""
    if all(hasattr(torch.ops.hybatch, op) for op in (*FAMILIES["ranking"], *_COMPILED_FOR_ONE["cpu", "ranking"])):
        register_ranking_fakes()
    if all(hasattr(torch.ops.hybatch, op) for op in FAMILIES["contrastive"]):
        register_contrastive_fakes()
