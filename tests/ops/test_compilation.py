"""Functions that torch.compile leaves alone, whether its compiler was imported before them or after."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from hybatch.ops.compilation import outside_compilation


@outside_compilation
def _is_compiled(tensor: Tensor) -> Tensor:
    return tensor + torch.compiler.is_compiling()


def test_nothing_in_it_is_compiled_whether_its_first_call_is_or_not() -> None:
    one = torch.zeros(3)
    compiled = torch.compile(lambda tensor: _is_compiled(tensor * 2) * 3, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert torch.equal(compiled(one), one)
        assert torch.equal(_is_compiled(one), one)


def test_it_keeps_its_name_and_its_arguments() -> None:
    assert _is_compiled.__name__ == "_is_compiled"
    assert torch.equal(_is_compiled(tensor=torch.ones(2)), torch.ones(2))
