"""Scaled cosine similarities as a matrix, for those who want to see them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hybatch.ops.contrastive.checks import check_pair, check_temperature
from hybatch.ops.products import inner_products


def similarity(queries_QH: Tensor, candidates_DH: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Cosine similarity of every query with every candidate, divided by the temperature.

    Args:
        queries_QH: float rows of any length; a row of zeros has similarity 0 with everything.
        candidates_DH: float rows of the same width; a block of them, where all are too many.
        temperature: greater than 0; a float, or a tensor without dimensions, which then receives a gradient.

    Returns:
        [Q, D] float32 (float64 for embeddings in float64), whatever autocast says; differentiable.

    Raises:
        TypeError, ValueError: an argument of the wrong dtype, shape or device, or a temperature that is not positive;
            the message names the argument.
    """
    check_pair(queries_QH, candidates_DH)
    check_temperature(temperature, queries_QH.device)
    dtype = torch.promote_types(torch.promote_types(queries_QH.dtype, candidates_DH.dtype), torch.float32)
    unit_queries, unit_candidates = (F.normalize(rows.to(dtype), dim=1) for rows in (queries_QH, candidates_DH))
    return inner_products(unit_queries, unit_candidates) / temperature
