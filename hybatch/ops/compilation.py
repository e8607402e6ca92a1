"""Functions that torch.compile leaves as they are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def outside_compilation(function: Callable[P, R]) -> Callable[P, R]:
    """As `torch.compiler.disable`, which imports torch's compiler, a second's work, for those who compile nothing, too.

    Here it is looked for at the call: where something is being compiled it has been imported.
    """
    disabled: Callable[P, R] | None = None

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        nonlocal disabled
        if disabled is None:
            disabled = torch.compiler.disable(function)
        return disabled(*args, **kwargs)

    return call
