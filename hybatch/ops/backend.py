"""Which implementation of an op runs: `torch` (pure PyTorch), `cpu` (C++) or `cuda`, and why not a faster one.

The compiled libraries are optional. They are looked for beside the package, loaded once on first use, and what is
wrong with them is kept, word for word, for the error that names a missing backend and for `hybatch env`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

import torch

from hybatch.ops.fakes import register_contrastive_fakes, register_ranking_fakes

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


def choose_backend(device: torch.device, requested: str = "auto", family: str = "ranking") -> str:
    """Name the backend that serves tensors on `device` with the ops of `family`, one of `FAMILIES`.

    `requested` wins over HYBATCH_BACKEND, which wins over the fastest that is there and known to work.

    Raises:
        ValueError: no backend of that name, or one that cannot serve the device.
        BackendError: the backend is missing; the message says why.
    """
    source = f"backend={requested!r}"
    if requested == "auto":
        requested = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
        source = f"{ENVIRONMENT_VARIABLE}={requested}"
    if requested == "auto":
        compiled = device.type if device.type in BACKENDS else None
        if compiled is None or (compiled, family) in _NEVER_RUN:
            return "torch"
        return compiled if why_missing(compiled, family, device) is None else "torch"
    if requested not in BACKENDS:
        raise ValueError(f"{source}: no such backend; choose from auto, {', '.join(BACKENDS)}")
    reason = why_missing(requested, family, device)
    if reason is not None:
        raise BackendError(f"{source}: this backend is missing: {reason}")
    if requested not in ("torch", device.type):
        raise ValueError(f"{source}: this backend needs tensors on {requested}; queries are on {device}")
    return requested


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


class BackendChoice(NamedTuple):
    """One line of `hybatch env`."""

    op: str
    """Name of the op and the kind of tensors."""
    backend: str
    """What will run: torch, cpu, cuda or none."""
    reason: str
    """Why not a faster one."""


def describe() -> list[BackendChoice]:
    """For each op and kind of device: the backend that will be used, and why not a faster one."""
    ops = {"rank_counts": "ranking", "info_nce": "contrastive"}
    return [_describe(op, family, device) for op, family in ops.items() for device in ("cpu", "cuda")]


def _describe(op: str, family: str, device: str) -> BackendChoice:
    label = f"{op}, {device} tensors"
    missing = why_missing(device, family)
    if device == "cuda" and not torch.cuda.is_available():
        return BackendChoice(label, "none", str(missing))
    try:
        backend = choose_backend(torch.device(device), family=family)
    except (BackendError, ValueError) as error:
        return BackendChoice(label, "none", str(error))
    if backend == device:
        return BackendChoice(label, backend, "the fastest there is")
    forced = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not forced and missing is None:
        return BackendChoice(label, backend, f"the {device} kernels have never run; ask for them by name to try them")
    return BackendChoice(label, backend, missing or f"{ENVIRONMENT_VARIABLE}={forced} asks for it")
