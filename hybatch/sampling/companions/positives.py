"""Which of an example's positives a step takes: all, or some drawn anew at each step.

A positive is a text that answers the example's question, in the language of the batch's passage; the passage itself is
the first of them. A query that is a passage (batches of translations) has one: its translation. Shapes: B examples of a
batch.
"""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from hybatch.sampling.keyed import Int64Array, derive_key, draws
from hybatch.sampling.kinds import KINDS
from hybatch.sampling.sampler import BatchSampler, GlobalBatch

Positive = tuple[str, float]
"""Text and weight; the weights of an example's positives sum to 1."""


def positive_counts(sampler: BatchSampler, batch: GlobalBatch, most: int | None) -> Int64Array:
    """How many positives a step takes of each example of a batch: [B], at least 1, at most `most` (None: all)."""
    if not _may_have_several(sampler, batch):
        return np.ones(len(batch.examples), dtype=np.int64)
    counts_B = sampler.corpora[batch.dataset].positive_counts(batch.examples, batch.passage_languages)
    return counts_B if most is None else np.minimum(counts_B, most)


def draw_positives(
    sampler: BatchSampler, batch: GlobalBatch, rows: slice, most: int | None
) -> list[list[Positive]] | None:
    """The positives that a step takes of some rows of a batch; None where these are the passages.

    Of more than `most` so many are drawn, by the run's seed, the step and the example's id, and keep their order. One
    alone is drawn in proportion to the scores, so that its loss is on average their weighted mean; several are drawn
    alike, and the scores are their weights.
    """
    if not _may_have_several(sampler, batch):
        return None
    corpus, examples = sampler.corpora[batch.dataset], batch.examples[rows]
    drawn = []
    for identifier, listed in zip(
        corpus.ids(examples), corpus.positives(examples, batch.passage_languages[rows]), strict=True
    ):
        if most is not None and len(listed) > most:
            key = derive_key("positives", sampler.seed, batch.step, identifier)
            chosen = [_draw_one(key, listed)] if most == 1 else _draw_some(key, len(listed), most)
            listed = [listed[place] for place in chosen]
        total = sum(score for _, score in listed)
        drawn.append([(text, score / total) for text, score in listed])
    return drawn


def _may_have_several(sampler: BatchSampler, batch: GlobalBatch) -> bool:
    return KINDS[batch.kind].query_text == "question" and sampler.corpora[batch.dataset].has_positives


def _draw_one(key: int, listed: list[Positive]) -> int:
    ends = list(accumulate(score for _, score in listed))
    # 53 bits, which a float64 holds: additions and products are the same on every machine.
    share = (int(draws(key, np.zeros(1, dtype=np.uint64))[0]) >> 11) * 2.0**-53
    return min(sum(end <= share * ends[-1] for end in ends), len(listed) - 1)


def _draw_some(key: int, number: int, most: int) -> list[int]:
    return sorted(np.argsort(draws(key, np.arange(number)), kind="stable")[:most].tolist())
