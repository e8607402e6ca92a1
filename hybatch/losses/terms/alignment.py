"""How far the answers that queries find lie from those that their translations find, over the passages of the batch.

A query and its translation have each a softmax distribution over the candidates that the contrastive loss compares the
query with, at its temperature. Their divergence (`divergences`) is summed tile by tile: neither logits nor
distributions ever exist whole, and the backward pass computes them again. Everything is float32, or float64 for
embeddings in float64, whatever autocast says.

With c the contribution of one candidate and g its derivative by log p, the derivative of the sum by that candidate's
logit is g - p * sum(g): the first pass over the candidates finds the log-sum-exps, the second the sums of c and g.

Shape suffixes: A queries of this process that have a translation, D candidates (of a block, where they come in blocks),
H embedding width; a and d those of one tile; 2 a query and its translation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.ring import collect_gradients, index_in_block, pairs_of_block, passing_blocks
from hybatch.losses.terms.divergences import DIVERGENCES, Divergence
from hybatch.ops.contrastive import EMPTY_SLOT, unpack_pairs
from hybatch.ops.products import float32_products
from hybatch.options import check_options, limits

AlignmentKind = str
if not TYPE_CHECKING:  # what the parser of configurations offers and checks
    AlignmentKind = Literal[tuple(DIVERGENCES)]

_TILE_SIDE = {"cpu": 512}
_ACCELERATOR_TILE_SIDE = 2048
TILES_AT_ONCE = 20
"""How many matrices of a tile's shape live at once, about; those of queries and of translations count as two."""


@dataclass(kw_only=True)
class AlignmentConfig:
    """A term beside the contrastive loss that makes a query and its translation find the same passages."""

    kind: AlignmentKind = "jsd"
    """How far apart two distributions over the passages are. jsd: Jensen-Shannon divergence; kl: Kullback-Leibler
    divergence, mean of both directions; mse: squared difference, summed over the passages."""
    weight: float = field(default=1.0, metadata=limits(ge=0, le=1_000_000))
    """What the term is multiplied with; 0 measures it and trains nothing by it."""

    def __post_init__(self) -> None:
        check_options(self, "loss.alignment")


def tile_side(device_type: str) -> int:
    """Rows and columns of a tile."""
    return _TILE_SIDE.get(device_type, _ACCELERATOR_TILE_SIDE)


def alignment_sum(
    inputs: ContrastiveInputs, translations_AH: Tensor, translated_A: Tensor, divergence: Divergence, *, ring: bool
) -> Tensor:
    """Sum over the queries that have a translation of the divergence of the two distributions over the candidates.

    Args:
        inputs: queries, and the candidates of all processes; with `ring` those of this process, as `ring_terms` takes
            them, and the call and its backward pass are collective: three rounds in all.
        translations_AH: float, rows of unit length.
        translated_A: int64, the row in `inputs.queries_QH` of the query that each translates; none may be there.

    Returns:
        Scalar, float32 (float64 for float64). It can be differentiated once, by queries, translations and candidates;
        what arrives at a process's candidates in a ring is the sum over all processes, as with `gather_with_gradient`.
    """
    return _AlignmentSum.apply(
        inputs.queries_QH[translated_A],
        translations_AH,
        inputs.candidates_DH,
        inputs.positive_index_Q[translated_A],
        inputs.query_groups_Q[translated_A],
        inputs.candidate_groups_D,
        None if inputs.left_out_QB is None else inputs.left_out_QB[..., translated_A, :],
        1 / inputs.temperature,
        divergence,
        ring,
    )


class _AlignmentSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        translations: Tensor,
        candidates: Tensor,
        positive_index: Tensor,
        query_groups: Tensor,
        candidate_groups: Tensor,
        left_out: Tensor | None,
        scale: float,
        divergence: Divergence,
        ring: bool,
    ) -> Tensor:
        with float32_products(queries.device):
            tiles = _Tiles(queries, translations, query_groups, scale)
            lse_2A = tiles.rows_2AH.new_full((2, len(queries)), float("-inf"))
            for index, block, groups, bits in _blocks(candidates, candidate_groups, positive_index, left_out, ring):
                for rows, _, logits_2ad, _ in tiles.logits(block, groups, index, bits):
                    lse_2A[:, rows] = torch.logaddexp(lse_2A[:, rows], logits_2ad.logsumexp(-1))
                del block
            total, sums_2A = tiles.rows_2AH.new_zeros(()), torch.zeros_like(lse_2A)
            for index, block, groups, bits in _blocks(candidates, candidate_groups, positive_index, left_out, ring):
                for rows, _, logits_2ad, left_out_ad in tiles.logits(block, groups, index, bits):
                    part_ad, by_log_2ad, _ = _contributions(logits_2ad, lse_2A[:, rows], left_out_ad, divergence)
                    total += part_ad.sum()
                    sums_2A[:, rows] += by_log_2ad.sum(-1)
                del block
        ctx.scale, ctx.divergence, ctx.ring = scale, divergence, ring
        ctx.save_for_backward(
            queries, translations, candidates, positive_index, query_groups, candidate_groups, left_out, lse_2A, sums_2A
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        queries, translations, candidates, positive_index, query_groups, candidate_groups, *of_pairs = ctx.saved_tensors
        left_out, lse_2A, sums_2A = of_pairs
        tiles = _Tiles(queries, translations, query_groups, ctx.scale)
        grad_rows_2AH = torch.zeros_like(tiles.rows_2AH)

        def gradient_of_block(index: Tensor, bits: Tensor | None, block: Tensor, groups: Tensor) -> Tensor:
            grad_block_DH = tiles.rows_2AH.new_zeros(block.shape)
            block_DH = block.to(grad_block_DH.dtype)
            for rows, columns, logits_2ad, left_out_ad in tiles.logits(block, groups, index, bits):
                _, by_log_2ad, p_2ad = _contributions(logits_2ad, lse_2A[:, rows], left_out_ad, ctx.divergence)
                weights_2ad = by_log_2ad.sub_(p_2ad.mul_(sums_2A[:, rows, None])).mul_(upstream * ctx.scale)
                grad_rows_2AH[:, rows] += weights_2ad @ block_DH[columns]
                grad_block_DH[columns] += weights_2ad.flatten(0, 1).T @ tiles.rows_2AH[:, rows].flatten(0, 1)
            return grad_block_DH

        with float32_products(queries.device):
            if ctx.ring:
                grad_candidates = collect_gradients(
                    candidates,
                    candidate_groups,
                    lambda home, *block: gradient_of_block(
                        index_in_block(positive_index, home), pairs_of_block(left_out, home), *block
                    ),
                )
            else:
                grad_candidates = gradient_of_block(positive_index, left_out, candidates, candidate_groups)
        grad_queries, grad_translations = grad_rows_2AH
        gradients = (
            grad.to(of.dtype)
            for grad, of in zip(
                (grad_queries, grad_translations, grad_candidates), (queries, translations, candidates), strict=True
            )
        )
        return *gradients, None, None, None, None, None, None, None


def _blocks(
    candidates: Tensor, groups: Tensor, positive_index: Tensor, left_out: Tensor | None, ring: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """The positives' places in a block, -1 where they are in another, the block, its groups, and pairs left out."""
    if not ring:
        yield positive_index, candidates, groups, left_out
        return
    for home, block, its_groups in passing_blocks(candidates, groups):
        yield index_in_block(positive_index, home), block, its_groups, pairs_of_block(left_out, home)
        del block  # or it would live until the block after the next has arrived


class _Tiles:
    """The logits of queries and their translations, as often as they are asked for."""

    def __init__(self, queries: Tensor, translations: Tensor, query_groups: Tensor, scale: float) -> None:
        dtype = torch.promote_types(queries.dtype, torch.float32)
        self.rows_2AH = torch.stack([queries.to(dtype), translations.to(dtype)])
        self._groups_A = query_groups
        self._scale = scale

    def logits(
        self, block: Tensor, groups: Tensor, positive_index: Tensor, left_out: Tensor | None
    ) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Rows and columns of each tile, its logits [2, a, d], -inf where a pair takes no part, and [a, d] where not.

        A pair takes part as in the contrastive loss: unless the candidate's slot is empty, its passage group is the
        query's or the pair is left out by itself; the query's own positive always does.
        """
        side = tile_side(block.device.type)
        for columns in _slices(len(block), side):
            block_dH, groups_d = block[columns].to(self.rows_2AH.dtype), groups[columns]
            places_d = torch.arange(columns.start, columns.stop, device=block.device)
            for rows in _slices(len(self._groups_A), side):
                same_ad = (self._groups_A[rows, None] == groups_d) & (groups_d >= 0)
                left_out_ad = same_ad | (groups_d == EMPTY_SLOT)
                if left_out is not None:
                    left_out_ad |= unpack_pairs(left_out[rows], columns)
                left_out_ad &= positive_index[rows, None] != places_d
                logits_2ad = (self.rows_2AH[:, rows] @ block_dH.T).mul_(self._scale)
                yield rows, columns, logits_2ad.masked_fill_(left_out_ad, float("-inf")), left_out_ad


def _contributions(
    logits_2ad: Tensor, lse_2a: Tensor, left_out_ad: Tensor, divergence: Divergence
) -> tuple[Tensor, Tensor, Tensor]:
    """What each candidate adds to the divergence [a, d], the derivatives by log p and p [2, a, d]; 0 where left out."""
    # With finite logarithms where nothing takes part, nothing there can be infinite or NaN.
    log_2ad = (logits_2ad - lse_2a[..., None]).masked_fill_(left_out_ad, 0.0)
    with torch.enable_grad():
        leaf_2ad = log_2ad.requires_grad_()
        parts_ad = divergence(*leaf_2ad).masked_fill(left_out_ad, 0.0)
        (by_log_2ad,) = torch.autograd.grad(parts_ad.sum(), leaf_2ad)
    return parts_ad.detach(), by_log_2ad, log_2ad.detach().exp().masked_fill_(left_out_ad, 0.0)


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
