"""The candidates that the queries of this process meet, in what order, and whose scores judge them.

Of a process's own the passages come first, then further positives, then hard negatives. Of all processes' the passages
and further positives of each come first, in rank order, then the hard negatives of each: so where every query has one
positive, that of global row i is candidate i.

Shape suffixes: Q queries of this process, D candidates, H embedding width, N hard-negative slots per query, G width of
the embeddings that say what is kept out.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hybatch.losses.false_negatives import FilterConfig, Judged
from hybatch.losses.gather import gather, gather_with_gradient
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.losses.protocol import GuideVectors
from hybatch.losses.several_positives import FurtherPositives
from hybatch.processes import rank, world_size


def num_positives(num_rows: int, further: FurtherPositives | None) -> int:
    """Leading candidates of a process that are passages or further positives."""
    return num_rows + (0 if further is None else len(further.query_E))


def own_candidates(
    queries_QH: Tensor,
    passages_QH: Tensor,
    negatives_QNH: Tensor | None,
    groups_Q: Tensor,
    negative_groups_QN: Tensor | None,
    further: FurtherPositives | None,
    temperature: float,
) -> ContrastiveInputs:
    """This process's queries and candidates; arguments as `TrainingLoss` states them.

    Raises:
        ValueError: hard negatives have no groups.
    """
    num_rows, width = queries_QH.shape
    own, own_groups = passages_QH, groups_Q
    if further is not None:
        own = torch.cat([own, further.passages_EH])
        own_groups = torch.cat([own_groups, further.groups_E(groups_Q)])
    if negatives_QNH is not None:
        if negative_groups_QN is None:
            raise ValueError("negatives_QNH needs negative_groups_QN")
        own = torch.cat([own, negatives_QNH.reshape(-1, width)])
        own_groups = torch.cat([own_groups, negative_groups_QN.reshape(-1)])
    return ContrastiveInputs(
        queries_QH=queries_QH,
        candidates_DH=own,
        positive_index_Q=torch.arange(num_rows, device=queries_QH.device),
        query_groups_Q=groups_Q,
        candidate_groups_D=own_groups,
        temperature=temperature,
    )


def with_all_candidates(own: ContrastiveInputs, further: FurtherPositives | None) -> ContrastiveInputs:
    """This process's queries and the candidates of all processes, by two collectives, one of which goes back."""
    positives = num_positives(len(own.queries_QH), further)
    return replace(
        own,
        candidates_DH=_positives_first(gather_with_gradient(own.candidates_DH), positives),
        positive_index_Q=rank() * positives + own.positive_index_Q,
        candidate_groups_D=_positives_first(gather(own.candidate_groups_D), positives),
    )


def _positives_first(gathered: Tensor, positives: int) -> Tensor:
    """Of each process's so many positives and then its negatives, gathered, all positives and then all negatives."""
    of_processes = gathered.unflatten(0, (world_size(), -1))
    parts = (slice(0, positives), slice(positives, None))
    return torch.cat([of_processes[:, part].flatten(0, 1) for part in parts])


def judged(
    own: ContrastiveInputs,
    gathered: ContrastiveInputs | None,
    guide: GuideVectors | None,
    further: FurtherPositives | None,
    rule: FilterConfig,
) -> Judged:
    """Whose scores say what is kept out; where a guide's do, collective unless in a ring.

    Args:
        gathered: with the candidates of all processes; None in a ring.
    """
    num_rows, positives = len(own.queries_QH), num_positives(len(own.queries_QH), further)
    num_negatives = len(own.candidates_DH) - positives
    if guide is None:
        queries_QG, own_DG = own.queries_QH.detach(), own.candidates_DH.detach()
        all_DG = None if gathered is None else gathered.candidates_DH.detach()
    else:
        queries_QG, own_DG = guide.queries_QG, guide.passages_QG
        if guide.negatives_QNG is not None:
            own_DG = torch.cat([own_DG, guide.negatives_QNG.flatten(0, 1)])
        all_DG = None if gathered is None else _positives_first(gather(own_DG), num_rows)
    spared = None
    if rule.spare_hard_negatives and num_negatives:
        first = positives if gathered is None else world_size() * positives + rank() * num_negatives
        spared = (first, num_negatives // num_rows)
    return Judged(queries_QG, own_DG, all_DG, spared)
