"""Which passages of a batch answer more of its questions than their own: those of examples that ask the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hybatch.corpus import ParallelCorpus
from hybatch.ops.contrastive import EMPTY_SLOT
from hybatch.sampling.keyed import Int64Array


def join_answers(
    corpus: ParallelCorpus, examples: Int64Array, question_languages: Int64Array, groups: Int64Array
) -> tuple[Int64Array, Mapping[int, int]]:
    """Give examples one passage group, for this batch, where one's passage answers the other's question.

    Args:
        examples, question_languages, groups: [B]; the groups all differ.

    Returns:
        groups [B], where each such example has that of the first it is joined with, over others too; and the corpus's
        groups that have another one in this batch, of an example or as an answer to its question: group -> the batch's,
        EMPTY_SLOT where several questions that are not joined have this answer.
    """
    answering = corpus.answering_groups(examples, question_languages)
    if not any(answering):
        return groups, {}
    row_of_group = {group: row for row, group in enumerate(groups.tolist())}
    joined = np.arange(len(groups))
    for row, others in enumerate(answering):
        for other in filter(row_of_group.__contains__, others):
            first, second = sorted((joined[row], joined[row_of_group[other]]))
            joined[joined == second] = first
    own = groups[joined]
    renamed = {group: label for group, label in zip(groups.tolist(), own.tolist(), strict=True) if group != label}
    for row, others in enumerate(answering):
        for other in others:
            if other not in row_of_group and renamed.setdefault(other, int(own[row])) != own[row]:
                renamed[other] = EMPTY_SLOT
    return own, renamed
