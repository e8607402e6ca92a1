"""What contrastive losses of given queries and candidates are made of, in the implementations that there are.

Shape suffixes: Q queries, D candidates, H embedding width, C leading candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hybatch.losses.inputs import ContrastiveInputs
from hybatch.ops.contrastive import EMPTY_SLOT, ContrastiveTerms, contrastive_terms, info_nce, unpack_pairs

Implementation = Literal["auto", "dense", "streaming"]

DENSE_LOGITS_BYTES = 2**22
"""With a matrix of float32 logits of this size, 1,024 x 1,024, the streaming implementation has caught up on a CPU."""


def dense_info_nce(inputs: ContrastiveInputs) -> Tensor:
    """Sum over the queries of -log softmax(cosine / temperature)[positive], through a Q x D matrix of logits.

    Returns:
        float32 scalar. Logits, log-sum-exp and softmax are float32 whatever the dtype of the embeddings: logits in
        bfloat16 cost some percent of the gradient at temperatures of 0.01 to 0.02.
    """
    with torch.autocast(inputs.queries_QH.device.type, enabled=False):
        return F.cross_entropy(_masked_logits(inputs), inputs.positive_index_Q, reduction="sum")


def dense_terms(inputs: ContrastiveInputs, *, num_columns: int) -> ContrastiveTerms:
    """Log-sum-exp of the rows and of the leading columns of the matrix of logits, and the positives' logits.

    Args:
        num_columns: C, the number of leading candidates whose log-sum-exp over the queries is wanted.

    Returns:
        float32: row_lse_Q, positive_logit_Q and column_lse_C; a column without queries is -inf, without gradient.
    """
    with torch.autocast(inputs.queries_QH.device.type, enabled=False):
        logits_QD = _masked_logits(inputs)
        positive_logit_Q = logits_QD.gather(1, inputs.positive_index_Q[:, None]).squeeze(1)
        # The gradient of a log-sum-exp over nothing but -inf is NaN: such a column is computed from a constant.
        columns_QC = logits_QD[:, :num_columns]
        lonely_C = (columns_QC.detach() == float("-inf")).all(0)
        column_lse_C = columns_QC.masked_fill(lonely_C, 0.0).logsumexp(0).masked_fill(lonely_C, float("-inf"))
        return ContrastiveTerms(logits_QD.logsumexp(1), positive_logit_Q, column_lse_C)


def _masked_logits(inputs: ContrastiveInputs) -> Tensor:
    logits_QD = inputs.queries_QH.float() @ inputs.candidates_DH.float().T / inputs.temperature
    candidate_groups_D = inputs.candidate_groups_D
    same_group_QD = (inputs.query_groups_Q[:, None] == candidate_groups_D) & (candidate_groups_D >= 0)
    left_out_QD = same_group_QD | (candidate_groups_D == EMPTY_SLOT)
    if inputs.left_out_QB is not None:
        left_out_QD |= unpack_pairs(inputs.left_out_QB, slice(0, len(candidate_groups_D)))
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


@dataclass(frozen=True)
class Computation:
    """One way to compute the softmax over candidates: with its gradients in the fewest products, or in its parts."""

    info_nce: Callable[[ContrastiveInputs], Tensor]
    terms: Callable[..., ContrastiveTerms]


DENSE = Computation(dense_info_nce, dense_terms)
STREAMING = Computation(streaming_info_nce, streaming_terms)


def choose_computation(implementation: Implementation, num_queries: int, num_candidates: int) -> Computation:
    """What `implementation` stands for; auto is dense while the logits take at most `DENSE_LOGITS_BYTES`.

    Below that, starting the tiles costs more than the matrix.
    """
    if implementation == "auto":
        return DENSE if 4 * num_queries * num_candidates <= DENSE_LOGITS_BYTES else STREAMING
    return {"dense": DENSE, "streaming": STREAMING}[implementation]
