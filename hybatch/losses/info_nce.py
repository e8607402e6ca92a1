"""What contrastive losses of given queries and candidates are made of, in the implementations that there are.

Shape suffixes: Q queries, D candidates, H embedding width, C leading candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hybatch.losses.inputs import ContrastiveInputs
from hybatch.ops.contrastive import EMPTY_SLOT, ContrastiveTerms, contrastive_terms, info_nce, unpack_pairs
from hybatch.ops.products import inner_products

Implementation = Literal["auto", "dense", "streaming"]

DENSE_LOGITS_BYTES = 2**22
"""With a matrix of float32 logits of this size, 1,024 x 1,024, the streaming implementation has caught up on a CPU."""


def dense_info_nce(inputs: ContrastiveInputs) -> Tensor:
    """Sum over the queries of -log softmax(cosine / temperature)[positive], through a Q x D matrix of logits.

    Returns:
        float32 scalar. Logits, log-sum-exp and softmax are float32 whatever the dtype of the embeddings: logits in
        bfloat16 cost some percent of the gradient at temperatures of 0.01 to 0.02.
    """
    return F.cross_entropy(_masked_logits(inputs), inputs.positive_index_Q, reduction="sum")


def dense_terms(inputs: ContrastiveInputs, *, num_columns: int) -> ContrastiveTerms:
    """Log-sum-exp of the rows and of the leading columns of the matrix of logits, and the positives' logits.

    Args:
        num_columns: C, the number of leading candidates whose log-sum-exp over the queries is wanted.

    Returns:
        float32: row_lse_Q, positive_logit_Q and column_lse_C; a column without queries is -inf, without gradient.
    """
    logits_QD = _masked_logits(inputs)
    positive_logit_Q = logits_QD.gather(1, inputs.positive_index_Q[:, None]).squeeze(1)
    return ContrastiveTerms(logits_QD.logsumexp(1), positive_logit_Q, _log_sum_exp(logits_QD[:, :num_columns], 0))


def dense_negatives(inputs: ContrastiveInputs, *, num_columns: int) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of each query's negatives, and of each leading candidate's logits with queries of other groups.

    No query has a positive here: all that answers it is of its group, and `inputs.positive_index_Q` is not looked at.

    Args:
        num_columns: C, as for `dense_terms`.

    Returns:
        float32: [Q] and [C], -inf without gradient where there is nothing to sum.
    """
    logits_QD = _masked_logits(inputs, positives=False)
    return _log_sum_exp(logits_QD, 1), _log_sum_exp(logits_QD[:, :num_columns], 0)


def _log_sum_exp(logits: Tensor, dim: int) -> Tensor:
    """The gradient of a log-sum-exp over nothing but -inf is NaN: such a line is computed from a constant."""
    lonely = (logits.detach() == float("-inf")).all(dim, keepdim=True)
    return logits.masked_fill(lonely, 0.0).logsumexp(dim).masked_fill(lonely.squeeze(dim), float("-inf"))


def _masked_logits(inputs: ContrastiveInputs, *, positives: bool = True) -> Tensor:
    logits_QD = inner_products(inputs.queries_QH.float(), inputs.candidates_DH.float()) / inputs.temperature
    candidate_groups_D = inputs.candidate_groups_D
    same_group_QD = (inputs.query_groups_Q[:, None] == candidate_groups_D) & (candidate_groups_D >= 0)
    left_out_QD = same_group_QD | (candidate_groups_D == EMPTY_SLOT)
    if inputs.left_out_QB is not None:
        left_out_QD |= unpack_pairs(inputs.left_out_QB, slice(0, len(candidate_groups_D)))
    if positives:
        left_out_QD.scatter_(1, inputs.positive_index_Q[:, None], False)
    return logits_QD.masked_fill(left_out_QD, float("-inf"))


def streaming_info_nce(inputs: ContrastiveInputs) -> Tensor:
    """`dense_info_nce` without the matrix, by the fastest backend of `hybatch.ops.info_nce` that is there.

    Values are not checked: embeddings that are not finite make a loss that is not, for the training loop to judge.
    """
    return info_nce(**inputs.as_arguments(), validate=False)


def streaming_terms(inputs: ContrastiveInputs, *, num_columns: int) -> ContrastiveTerms:
    """`dense_terms` without the matrix; values are not checked either."""
    terms = contrastive_terms(**inputs.as_arguments(), columns=True, validate=False)
    assert terms.column_lse_D is not None
    return terms._replace(column_lse_D=terms.column_lse_D[:num_columns])


def streaming_negatives(inputs: ContrastiveInputs, *, num_columns: int) -> tuple[Tensor, Tensor]:
    """`dense_negatives` without the matrix; values are not checked either."""
    terms = contrastive_terms(**without_positives(inputs).as_arguments(), columns=num_columns > 0, validate=False)
    columns_D = terms.row_lse_Q[:0] if terms.column_lse_D is None else terms.column_lse_D
    return terms.row_lse_Q, columns_D[:num_columns]


def without_positives(inputs: ContrastiveInputs) -> ContrastiveInputs:
    """The same queries and candidates, none of which is said to be a query's positive."""
    return replace(inputs, positive_index_Q=torch.full_like(inputs.positive_index_Q, -1))


@dataclass(frozen=True)
class Computation:
    """One way to compute the softmax over candidates.

    With its gradients in the fewest products, in its parts, or of the negatives alone.
    """

    info_nce: Callable[[ContrastiveInputs], Tensor]
    terms: Callable[..., ContrastiveTerms]
    negatives: Callable[..., tuple[Tensor, Tensor]]


DENSE = Computation(dense_info_nce, dense_terms, dense_negatives)
STREAMING = Computation(streaming_info_nce, streaming_terms, streaming_negatives)


def choose_computation(implementation: Implementation, num_queries: int, num_candidates: int) -> Computation:
    """What `implementation` stands for; auto is dense while the logits take at most `DENSE_LOGITS_BYTES`.

    Below that, starting the tiles costs more than the matrix.
    """
    if implementation == "auto":
        return DENSE if 4 * num_queries * num_candidates <= DENSE_LOGITS_BYTES else STREAMING
    return {"dense": DENSE, "streaming": STREAMING}[implementation]
