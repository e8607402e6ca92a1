"""InfoNCE whose memory grows with the number of embeddings, not with its square.

Logits are inner products divided by the temperature: normalise the embeddings for cosine similarity. They exist tile by
tile, are float32 whatever the embeddings are in, and enter the log-sum-exp relative to a running maximum.

Shape suffixes: Q queries, D candidates, H embedding width, B bytes of a query's bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hybatch.ops.backend import choose_backend
from hybatch.ops.compilation import outside_compilation
from hybatch.ops.contrastive import checks
from hybatch.ops.contrastive.autograd import SummedLoss, Terms
from hybatch.ops.contrastive.backend import ContrastiveOps, contrastive_ops
from hybatch.ops.contrastive.trials import CONTRASTIVE_TERMS, INFO_NCE
from hybatch.ops.trial import Trial


class ContrastiveTerms(NamedTuple):
    """What contrastive losses are made of; float32 (float64 for embeddings in float64), differentiable."""

    row_lse_Q: Tensor
    """Per query, the log of the sum of exp(logit) over its positive and its negatives."""
    positive_logit_Q: Tensor
    """The logit of the query's positive; row_lse - positive_logit is -log softmax."""
    column_lse_D: Tensor | None
    """Per candidate, the log of the sum of exp(logit) over the queries that it takes part with; -inf without any. Over
    the queries of several processes, the log-sum-exp of their results."""


@outside_compilation
def info_nce(
    queries_QH: Tensor,
    candidates_DH: Tensor,
    *,
    positive_index_Q: Tensor,
    query_groups_Q: Tensor,
    candidate_groups_D: Tensor,
    temperature: float | Tensor,
    left_out_QB: Tensor | None = None,
    validate: bool = True,
    backend: str = "auto",
    block_size: int | None = None,
) -> Tensor:
    """Sum over the queries of -log softmax(logits)[positive] (van den Oord et al. 2018, equation 4).

    Where a gradient will be wanted it is formed during the forward pass, which then takes three products of Q x D x H
    instead of the four that `contrastive_terms` and its backward pass take.

    Args:
        queries_QH: [Q, H], float32, bfloat16, float16 or float64.
        candidates_DH: [D, H]; passages, hard negatives and all else that queries are compared with. Of two dtypes both
            are taken as the wider.
        positive_index_Q: integers in [0, D), the row of `candidates_DH` that is each query's positive.
        query_groups_Q: integers, the passage group of each query's positive, 0 or more.
        candidate_groups_D: integers; `UNKNOWN_GROUP` and `EMPTY_SLOT` have the meanings stated there. A candidate of
            the query's own group is no negative, unless it is the positive itself.
        temperature: greater than 0; a float, or a tensor without dimensions, which then receives a gradient.
        left_out_QB: uint8 [Q, ceil(D / 8)], further pairs that take no part, as `pack_pairs` packs them; a query's
            positive takes part whatever its bit says.
        validate: check values, too. Without it shapes and dtypes are still checked but nothing is read back from the
            device; NaN and infinity then show in the loss, and positives out of range are undefined behaviour.
        backend: auto, torch, cpu, blas or cuda; float64 is for the torch backend. On a CPU, auto is what is fastest
            there: the first call of a process finds out, unless `hybatch.backends` has told it. `blas` takes torch's
            own matrix products and does the rest in C++; `cpu` has products of its own.
        block_size: the torch and blas backends hold tiles of this many queries by this many candidates, instead of
            tiles of a fixed number of bytes; the others have tiles of their own.

    Returns:
        Scalar, float32 (float64 for float64). It can be differentiated once.

    Raises:
        TypeError, ValueError: an argument of the wrong dtype, shape, device or range, a temperature that is not
            positive, a NaN or infinity; the message names the argument and the first offending entry.
        BackendError: the backend that was asked for is missing.

    Memory: one tile, and where gradients are wanted those, in float32; never Q x D.
    """
    pairs = prepare(
        queries_QH, candidates_DH, positive_index_Q, query_groups_Q, candidate_groups_D, temperature, validate
    )
    left_out_QB = checks.check_left_out(left_out_QB, pairs[0], pairs[1])
    ops = choose_ops(pairs[0], INFO_NCE, backend, block_size)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in pairs):
        return SummedLoss.apply(*pairs, left_out_QB, ops)
    row_lse_Q, positive_logit_Q, _ = Terms.apply(*pairs, left_out_QB, False, ops)
    return (row_lse_Q - positive_logit_Q).sum()


@outside_compilation
def contrastive_terms(
    queries_QH: Tensor,
    candidates_DH: Tensor,
    *,
    positive_index_Q: Tensor,
    query_groups_Q: Tensor,
    candidate_groups_D: Tensor,
    temperature: float | Tensor,
    left_out_QB: Tensor | None = None,
    columns: bool = False,
    validate: bool = True,
    backend: str = "auto",
    block_size: int | None = None,
) -> ContrastiveTerms:
    """The log-sum-exps and positives that any contrastive loss of these embeddings is made of, in one pass.

    With `columns` the symmetric loss costs no second matrix of logits: the loss of finding the query given its
    positive is column_lse[positive_index] - positive_logit. The backward pass computes the logits again.

    Args, raises, memory: as for `info_nce`; `columns` says whether to give column_lse_D.
    """
    pairs = prepare(
        queries_QH, candidates_DH, positive_index_Q, query_groups_Q, candidate_groups_D, temperature, validate
    )
    left_out_QB = checks.check_left_out(left_out_QB, pairs[0], pairs[1])
    ops = choose_ops(pairs[0], CONTRASTIVE_TERMS, backend, block_size)
    row_lse_Q, positive_logit_Q, column_lse_D = Terms.apply(*pairs, left_out_QB, columns, ops)
    return ContrastiveTerms(row_lse_Q, positive_logit_Q, column_lse_D if columns else None)


def prepare(
    queries: Tensor,
    candidates: Tensor,
    positive_index: Tensor,
    query_groups: Tensor,
    candidate_groups: Tensor,
    temperature: float | Tensor,
    validate: bool,
) -> tuple[Tensor, ...]:
    """Check the arguments and bring them into the form that the ops take, scale in third place."""
    checks.check_pair(queries, candidates)
    checks.check_labels(queries, candidates, positive_index, query_groups, candidate_groups)
    checks.check_temperature(temperature, queries.device, read=validate)
    if validate:
        checks.check_values(queries, candidates, positive_index)
    dtype = torch.promote_types(queries.dtype, candidates.dtype)
    scale_dtype = torch.promote_types(dtype, torch.float32)
    scale = 1.0 / torch.as_tensor(temperature, dtype=scale_dtype, device=queries.device)
    labels = (values.long().contiguous() for values in (positive_index, query_groups, candidate_groups))
    return queries.to(dtype).contiguous(), candidates.to(dtype).contiguous(), scale, *labels


def choose_ops(queries: Tensor, trial: Trial, backend: str = "auto", block_size: int | None = None) -> ContrastiveOps:
    """The ops that serve embeddings of this dtype on this device; `auto` is decided by the trial."""
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size: expected 1 or more, got {block_size}")
    if queries.dtype == torch.float64:
        if backend not in ("auto", "torch"):
            raise TypeError(f"queries: float64 is for the torch backend, not for backend={backend!r}")
        backend = "torch"
    return contrastive_ops(choose_backend(queries.device, backend, "contrastive", trial), block_size)
