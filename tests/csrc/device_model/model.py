"""The device model's ops, called on CPU tensors with the arguments that torch's dispatcher gives the compiled ones.

    model = load()
    scores = model.pair_scores(queries, embeddings, offsets, "bf16", rows)

Environment: HYBATCH_DEVICE_MODEL names the kind of build (plain, address, thread; build.py), HYBATCH_DEVICE_MODEL_SEED
the seed that schedules are drawn from.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.csrc.device_model.build import build

SCALAR_TYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.bfloat16: 15,
}  # fmt: skip
DTYPES = {number: dtype for dtype, number in SCALAR_TYPES.items()}


class Options(ctypes.Structure):
    """See runtime/block.h."""

    _fields_ = [
        ("seed", ctypes.c_uint64),
        *((name, ctypes.c_int) for name in ("multiprocessors", "capability", "group", "bits")),
        ("downwards", ctypes.c_bool),
    ]


class Argument(ctypes.Structure):
    """See runtime/ops.cpp."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kind", "type", "dims")),
        ("sizes", ctypes.c_int64 * 4),
        ("integer", ctypes.c_int64),
        ("text", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
    ]

    @staticmethod
    def of(value: Tensor | bool | int | str | None) -> Argument:
        none, tensor, integer, boolean, text = range(5)
        if value is None:
            return Argument(kind=none)
        if isinstance(value, bool):
            return Argument(kind=boolean, integer=value)
        if isinstance(value, int):
            return Argument(kind=integer, integer=value)
        if isinstance(value, str):
            return Argument(kind=text, text=value.encode())
        assert value.is_contiguous()
        sizes = (ctypes.c_int64 * 4)(*value.shape)
        return Argument(tensor, SCALAR_TYPES[value.dtype], value.dim(), sizes, data=value.data_ptr())

    def copied(self) -> Tensor:
        tensor = torch.empty(tuple(self.sizes[: self.dims]), dtype=DTYPES[self.type])
        if tensor.nbytes:
            ctypes.memmove(tensor.data_ptr(), self.data, tensor.nbytes)
        return tensor


class DeviceModel:
    """Every attribute that is not one of its own is an op of that name."""

    def __init__(self, library: Path, seed: int = 1) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.DeviceModelError.restype = ctypes.c_char_p
        self._defaults = {"seed": seed, "multiprocessors": 3, "capability": 90, "group": 0, "bits": 0, "downwards": 0}
        self._configure()

    def _configure(self, **options: int) -> None:
        self._library.DeviceModelConfigure(ctypes.byref(Options(**(self._defaults | options))))

    @contextmanager
    def options(self, **options: int) -> Iterator[None]:
        """For a while another seed, another device, or other tensor cores."""
        self._configure(**options)
        try:
            yield
        finally:
            self._configure()

    def call(self, op: str, *values: Tensor | bool | int | str | None) -> Tensor | tuple[Tensor, ...] | None:
        """Tensors that the op writes to are changed. RuntimeError: what a kernel or its registration found wrong."""
        arguments = (Argument * len(values))(*map(Argument.of, values))
        count = self._library.DeviceModelCall(op.encode(), arguments, len(values))
        if count < 0:
            raise RuntimeError(self._library.DeviceModelError().decode())
        results = [Argument() for _ in range(count)]
        for number, result in enumerate(results):
            self._library.DeviceModelResult(number, ctypes.byref(result))
        tensors = tuple(result.copied() for result in results)
        return tensors if len(tensors) > 1 else (tensors[0] if tensors else None)

    def __getattr__(self, op: str) -> Callable[..., Any]:
        return functools.partial(self.call, op)


@functools.cache
def load() -> DeviceModel:
    """The model of this repository's csrc/, built if it is not."""
    kind = os.environ.get("HYBATCH_DEVICE_MODEL", "plain")
    return DeviceModel(build(kind), int(os.environ.get("HYBATCH_DEVICE_MODEL_SEED", "1")))
