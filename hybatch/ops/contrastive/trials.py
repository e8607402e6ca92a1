"""The small problems by which `auto` chooses a backend of the contrastive ops.

Loss and gradients in one pass, and terms and gradients apart, rank the backends differently on some processors: the
library's product may win the first, where less is done to the logits than to form them, and lose the second.

Shape suffixes: B queries and as many candidates, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hybatch.ops.contrastive.backend import contrastive_ops
from hybatch.ops.trial import Trial

_SIZE, _WIDTH = 384, 384
"""As many rows as three backends can be tried on in time: fewer flatter what costs least to start. Of 512 to 4,096
rows `blas` takes 3 to 11% less than `cpu` on an AMD EPYC (Zen 3; benchmarks/results/contrastive-cpu-zen3.json)."""
_PROBLEM = f"{_SIZE} x {_SIZE} of width {_WIDTH}"


def _pairs() -> tuple[Tensor, ...]:
    """Queries, candidates, positives, both sides' groups and the scale, as the ops take them."""
    generator = torch.Generator().manual_seed(0)
    queries_BH, noise_BH = torch.randn(2, _SIZE, _WIDTH, generator=generator, dtype=torch.float32, device="cpu")
    rows_B = torch.arange(_SIZE, device="cpu")
    scale = torch.tensor(20.0, dtype=torch.float32, device="cpu")
    return F.normalize(queries_BH), F.normalize(queries_BH + noise_BH), rows_B, rows_B, rows_B, scale


def _loss() -> Callable[[str], object]:
    pairs = _pairs()
    return lambda backend: contrastive_ops(backend, None).forward_backward(*pairs)


def _terms() -> Callable[[str], object]:
    pairs = _pairs()
    ones_B = torch.ones(_SIZE, dtype=torch.float32, device="cpu")

    def run(backend: str) -> object:
        ops = contrastive_ops(backend, None)
        row_lse_B, _, column_lse_B = ops.forward(*pairs, True)
        return ops.backward(*pairs, row_lse_B, ones_B, -ones_B, column_lse_B, ones_B)

    return run


INFO_NCE = Trial("info_nce", _PROBLEM, _loss)
CONTRASTIVE_TERMS = Trial("contrastive_terms", _PROBLEM, _terms)
