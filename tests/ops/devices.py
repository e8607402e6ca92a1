"""The devices that the cases of the CUDA ops run on: the model of one (tests/csrc/device_model), which executes the
kernels' sources on this machine, and a real one where torch finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from hybatch.ops import backend
from tests.csrc.device_model import build, model

DEVICES = ("model", "cuda")


def ops_on(device: str) -> Any:
    """What has the ops as attributes: the dispatcher, or the model's table of what registration.cu registers."""
    return model.load() if device == "model" else torch.ops.hybatch


def put(tensor: Tensor, device: str) -> Tensor:
    """The model's tensors are the CPU's."""
    return tensor.contiguous() if device == "model" else tensor.to(device)


def zeros(shape: Sequence[int], dtype: torch.dtype, device: str) -> Tensor:
    """Made where they lie: nothing is copied, which a graph of kernels could not repeat."""
    return torch.zeros(shape, dtype=dtype, device="cpu" if device == "model" else device)


def _why_missing(device: str, *, family: str, capability: int | None) -> str | None:
    if device == "model":
        return build.why_not()
    missing = backend.why_missing("cuda", family)
    if missing is not None:
        return f"no compiled CUDA ops: {missing}"
    major, minor = torch.cuda.get_device_capability()
    if capability is not None and 10 * major + minor != capability:
        return f"the device's compute capability is {major}.{minor}"
    return None


def marks(device: str, *, family: str = "ranking", capability: int | None = None) -> list[pytest.MarkDecorator]:
    """Of a test on that device. The model takes half a minute to compile, so that all its tests count as slow."""
    missing = _why_missing(device, family=family, capability=capability)
    kind = [pytest.mark.device_model, pytest.mark.slow] if device == "model" else [pytest.mark.gpu]
    return [*kind, pytest.mark.skipif(missing is not None, reason=str(missing))]


def on_devices(**of: Any) -> pytest.MarkDecorator:
    """The test runs on each device, which it is given by name."""
    return pytest.mark.parametrize("device", [pytest.param(device, marks=marks(device, **of)) for device in DEVICES])


def on_devices_with(
    name: str, values: Iterable[Any], *, in_model: Callable[[Any], bool], **of: Any
) -> pytest.MarkDecorator:
    """Likewise with each of the values; in the model only with those that it gets through in seconds."""
    pairs = [(device, value) for device in DEVICES for value in values if device == "cuda" or in_model(value)]
    return pytest.mark.parametrize(
        ("device", name), [pytest.param(*pair, marks=marks(pair[0], **of), id=f"{pair[0]}-{pair[1]}") for pair in pairs]
    )


def on_gpu(**of: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test is of what the model does not have: streams, graphs, several devices, the device's own rounding."""

    def marked(function: Callable[..., None]) -> Callable[..., None]:
        for mark in marks("cuda", **of):
            function = mark(function)
        return function

    return marked
