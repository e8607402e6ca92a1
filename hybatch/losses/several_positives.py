"""InfoNCE of queries that have several positives.

All positives of a query are of its passage group, so that the softmax over candidates leaves them out: it gives the
log-sum-exp of the negatives, l. With s_p the logit of positive p and w_p its weight, a query's loss is

    mean:     sum over p of w_p log(1 + exp(l - s_p)), InfoNCE of each positive with the others out of its denominator
    log-sum:  log(1 + exp(l - log sum over p of exp(s_p))), the share of the softmax that all positives have together

and the way back, from a positive to its query among all queries, is the sum over p of w_p log(1 + exp(l_p - s_p)), with
l_p over the queries that p does not answer. With one positive all of these are InfoNCE (van den Oord et al. 2018). The
log-sum is MIL-NCE (Miech et al. 2020, "End-to-End Learning of Visual Representations from Uncurated Instructional
Videos"); the mean is outside of the logarithm as in "Supervised Contrastive Learning" (Khosla et al. 2020), whose
denominators hold the other positives, too.

Shape suffixes: Q queries of this process, E further positives of it, P = Q + E, H embedding width, W processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hybatch.losses.truncation import truncated
from hybatch.ops.contrastive import EMPTY_SLOT
from hybatch.ops.products import float32_products

Form = Literal["mean", "log-sum"]


@dataclass(frozen=True, kw_only=True)
class FurtherPositives:
    """What queries have beside the positive that is their passage.

    Attributes:
        passages_EH: float, rows of unit length; E is the same on every process, and there are empty slots among them.
        query_E: int64, the row of the query that each answers, ascending; Q of an empty slot.
        weights_Q: float, of each query's passage.
        weights_E: float, of each further positive; a query's weights sum to 1, an empty slot has 0.
        most: positives that a query of the global batch has at most, its passage counted.
    """

    passages_EH: Tensor
    query_E: Tensor
    weights_Q: Tensor
    weights_E: Tensor
    most: int

    def groups_E(self, groups_Q: Tensor) -> Tensor:
        """Passage groups: the query's, `EMPTY_SLOT` where there is nothing."""
        return torch.cat([groups_Q, groups_Q.new_full((1,), EMPTY_SLOT)])[self.query_E]

    def query_P(self) -> Tensor:
        """The row of every positive's query, of passages first; any row of an empty slot."""
        num_queries = len(self.weights_Q)
        passages = torch.arange(num_queries, device=self.query_E.device)
        return torch.cat([passages, self.query_E.clamp(max=num_queries - 1)])

    def column_E(self) -> Tensor:
        """The number of each further positive among those of its query, whose passage has number 0."""
        places = torch.arange(len(self.query_E), device=self.query_E.device)
        return 1 + places - torch.searchsorted(self.query_E, self.query_E)

    def truncated(self, width: int) -> FurtherPositives:
        """The same by the leading dimensions of their embeddings, scaled to unit length."""
        return replace(self, passages_EH=truncated(self.passages_EH, width))


def positive_logits(queries_QH: Tensor, passages_QH: Tensor, further: FurtherPositives, temperature: float) -> Tensor:
    """The logit of every positive and its query, [P], float32 (float64 for float64) whatever autocast says."""
    dtype = torch.promote_types(queries_QH.dtype, torch.float32)
    with float32_products(queries_QH.device):
        positives_PH = torch.cat([passages_QH, further.passages_EH]).to(dtype)
        return (queries_QH.to(dtype)[further.query_P()] * positives_PH).sum(-1) / temperature


def sum_over_queries(form: Form, negative_lse_Q: Tensor, logits_P: Tensor, further: FurtherPositives) -> Tensor:
    """The sum over this process's queries of the loss of finding their positives.

    Args:
        negative_lse_Q: log-sum-exp of the logits of each query's negatives; -inf without any.
        logits_P: as `positive_logits` gives them.
    """
    if form == "log-sum":
        return _log_one_plus_exp(negative_lse_Q - _positive_lse(logits_P, further)).sum()
    return (_weights_P(further, logits_P) * _log_one_plus_exp(negative_lse_Q[further.query_P()] - logits_P)).sum()


def sum_over_positives(other_lse_WP: Tensor, logits_P: Tensor, further: FurtherPositives) -> Tensor:
    """The sum over this process's queries of the loss of finding the query, given each of its positives.

    Args:
        other_lse_WP: log-sum-exp of each positive's logits with the queries of each process that it does not answer.
    """
    # Beside a finite number, for where there are no others the gradient of their log-sum-exp would not be one.
    joined_P = torch.cat([logits_P[None], other_lse_WP]).logsumexp(0)
    return (_weights_P(further, logits_P) * (joined_P - logits_P)).sum()


def _positive_lse(logits_P: Tensor, further: FurtherPositives) -> Tensor:
    num_queries = len(further.weights_Q)
    # A row more, for empty slots.
    logits_QP = logits_P.new_full((num_queries + 1, further.most), float("-inf"))
    passages_Q, others_E = logits_P.split([num_queries, len(further.query_E)])
    column_E = further.column_E().where(further.query_E < num_queries, 0)
    logits_QP = logits_QP.index_put((further.query_E, column_E), others_E)[:num_queries]
    return torch.cat([passages_Q[:, None], logits_QP[:, 1:]], dim=1).logsumexp(1)


def _weights_P(further: FurtherPositives, logits_P: Tensor) -> Tensor:
    return torch.cat([further.weights_Q, further.weights_E]).to(logits_P.dtype)


def _log_one_plus_exp(values: Tensor) -> Tensor:
    """Of minus infinity, too; it keeps its digits where it is small."""
    return torch.logaddexp(values, torch.zeros_like(values))
