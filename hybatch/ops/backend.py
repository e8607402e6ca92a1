"""Which implementation of an op runs: `torch` (pure PyTorch), `cpu` (C++), `blas` (C++ between the matrix products of
torch's own library) or `cuda`, and why not a faster one.

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

from hybatch.ops.fakes import register_contrastive_fakes, register_ranking_fakes, register_tile_fakes
from hybatch.ops.processor import processor_facts
from hybatch.ops.trial import Trial, figures_of

ENVIRONMENT_VARIABLE = "HYBATCH_BACKEND"
_PACKAGE = Path(__file__).resolve().parent.parent
_CONTRASTIVE = ("contrastive_forward", "contrastive_backward", "contrastive_forward_backward")
_COMPILED_OPS: dict[str, dict[str, tuple[str, ...]]] = {
    "cpu": {"ranking": ("pair_scores", "count_above_", "count_and_keep_"), "contrastive": _CONTRASTIVE},
    "blas": {"contrastive": ("contrastive_add_sums_", "contrastive_known_weights_", "contrastive_loss_weights_")},
    "cuda": {"ranking": ("pair_scores", "count_above_"), "contrastive": _CONTRASTIVE},
}
"""By backend and family: the ops that it must have all of, to serve what is built on them."""
FAMILIES = tuple(_COMPILED_OPS["cpu"])
BACKENDS = ("torch", *_COMPILED_OPS)
DEVICES = {"cpu": "cpu", "blas": "cpu", "cuda": "cuda"}
"""Where a compiled backend's tensors are; its kernels are in the library of that device."""
_BUILT_WITH = {"cpu": "a C++ compiler or an installed torch", "cuda": "nvcc or a torch with CUDA"}
"""What setup.py needs for each library."""
_BY_NAME = {("cuda", "contrastive")}
"""Kernels that `auto` never chooses: for float32, which training gives them, no GPU has timed them beside torch's."""
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
        requested = forced_backend(family) or "auto"
        source = f"{ENVIRONMENT_VARIABLE}={requested}"
    if requested == "auto":
        candidates = candidates_for_auto(device, family)
        if trial is None or device.type != "cpu" or len(candidates) == 1:
            return candidates[0]
        return figures_of(trial, candidates).fastest()
    known = backends_of(family)
    if requested not in known:
        of_what = f" of the {family} ops" if requested in BACKENDS else ""
        raise ValueError(f"{source}: no such backend{of_what}; choose from auto, {', '.join(known)}")
    reason = why_missing(requested, family, device)
    if reason is not None:
        raise BackendError(f"{source}: this backend is missing: {reason}")
    if DEVICES.get(requested, device.type) != device.type:
        raise ValueError(f"{source}: this backend needs tensors on {DEVICES[requested]}; queries are on {device}")
    return requested


def backends_of(family: str) -> tuple[str, ...]:
    """The backends that there can be for the ops of `family`."""
    return tuple(one for one in BACKENDS if family in _COMPILED_OPS.get(one, FAMILIES))


def forced_backend(family: str) -> str | None:
    """What HYBATCH_BACKEND asks for, if it does; a backend that other ops have leaves those of `family` open."""
    forced = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    is_of_others = forced in BACKENDS and forced not in backends_of(family)
    return None if forced == "auto" or is_of_others else forced


def candidates_for_auto(device: torch.device, family: str) -> tuple[str, ...]:
    """The backends that `auto` may choose for tensors on `device`.

    First comes the one that is preferred where figures do not tell them apart: the library's matrix products, or ours
    on processors where they were measured to be the faster.
    """
    candidates = [one for one in usable_backends(device, family) if (one, family) not in _BY_NAME]
    if "blas" in candidates and not _our_products_lead(processor_facts()):
        candidates.sort(key=lambda one: one != "blas")
    return tuple(candidates)


def _our_products_lead(processor: Mapping[str, str]) -> bool:
    """On AMD's processors with AVX-512, of which the library makes less: Zen 4 against Zen 3 in docs/performance.md."""
    return processor.get("vendor_id") == "AuthenticAMD" and "avx512f" in processor.get("flags", "").split()


def usable_backends(device: torch.device, family: str) -> tuple[str, ...]:
    """The backends that can serve tensors on `device` with the ops of `family`, compiled ones first."""
    served = [one for one in backends_of(family) if DEVICES.get(one) == device.type]
    return (*(one for one in served if why_missing(one, family, device) is None), "torch")


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
    if family not in _COMPILED_OPS[backend]:
        return f"the {family} ops have none of that name"
    reason = _load(DEVICES[backend])
    if reason is None and backend == "cuda":
        reason = _why_too_old(device if device is not None and device.type == "cuda" else torch.device("cuda"))
    absent = [] if reason else [op for op in _COMPILED_OPS[backend][family] if not _has_kernel(op, DEVICES[backend])]
    if absent:
        library = _library(DEVICES[backend])
        reason = f"{library} holds no {backend} kernel for {', '.join(absent)}: it was built from another version"
    return reason


def library_stamps(backends: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of the library of each compiled backend that has one: another build, other figures."""
    files = {backend: _library(DEVICES[backend]) for backend in backends if backend in DEVICES}
    states = {backend: file.stat() for backend, file in files.items() if file.exists()}
    return {backend: (state.st_size, state.st_mtime_ns) for backend, state in states.items()}


def _library(device: str) -> Path:
    return _PACKAGE / f"_{device}.so"


@functools.cache
def _load(device: str) -> str | None:
    """Load the library of the kernels for a kind of device, once; None, or what is wrong."""
    if device == "cuda":
        if torch.version.cuda is None:
            return f"torch {torch.__version__} is built without CUDA"
        if not torch.cuda.is_available():
            return "torch finds no CUDA device"
        schemas_missing = _load("cpu")  # that library defines the schemas of both
        if schemas_missing is not None:
            return schemas_missing
    library = _library(device)
    if not library.exists():
        return (
            f"{library} is not there: the extension was not compiled for {device} when hybatch was installed, for "
            f"want of {_BUILT_WITH[device]}; with that at hand, install again: pip install --no-build-isolation ."
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


def _has_kernel(op: str, device: str) -> bool:
    name = f"hybatch::{op}"
    return hasattr(torch.ops.hybatch, op) and torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper())


@functools.cache
def _register_fakes() -> None:
    """Tell torch.compile the shapes that the compiled ops return."""
    registrations = (
        (_COMPILED_OPS["cpu"]["ranking"], register_ranking_fakes),
        (_COMPILED_OPS["cpu"]["contrastive"], register_contrastive_fakes),
        (_COMPILED_OPS["blas"]["contrastive"], register_tile_fakes),
    )
    for ops, register in registrations:
        if all(hasattr(torch.ops.hybatch, op) for op in ops):
            register()
