"""The ranking ops of each backend behind one face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybatch.ops.ranking import torch_backend


@dataclass(frozen=True)
class RankingOps:
    """The two ranking ops of one backend; signatures and meaning as in `torch_backend`."""

    pair_scores: Callable[..., Tensor]
    count_above_: Callable[..., None]


def ranking_ops(backend: str) -> RankingOps:
    """The ranking ops of a backend that `choose_backend` returned."""
    if backend == "torch":
        return RankingOps(torch_backend.pair_scores, torch_backend.count_above_)
    return RankingOps(torch.ops.hybatch.pair_scores, torch.ops.hybatch.count_above_)
