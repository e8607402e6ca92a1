"""In which languages each example of a batch stands: drawn per example from those that it has.

Shapes: B examples, L languages (bits of a mask, lowest first).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hybatch.sampling.keyed import Int64Array, UInt64Array, bounded, bounded_widely


def draw_language(numbers_B: UInt64Array, masks_B: UInt64Array, num_languages: int) -> Int64Array:
    """One of the languages of each mask, each equally likely: [B] language indices.

    Args:
        numbers_B: uniform 64-bit numbers.
        masks_B: the languages to choose from; every mask has at least one bit below `num_languages`.
    """
    ranks_B = bounded(numbers_B, np.bitwise_count(masks_B)).astype(np.int64)
    return _first_above(np.cumsum(_bits(masks_B, num_languages), axis=1), ranks_B)


def draw_language_pair(
    numbers_B: UInt64Array,
    question_masks_B: UInt64Array,
    passage_masks_B: UInt64Array,
    num_languages: int,
    *,
    different: bool,
) -> tuple[Int64Array, Int64Array]:
    """An ordered pair of languages for each example, each pair that it has equally likely.

    Args:
        numbers_B: uniform 64-bit numbers.
        question_masks_B, passage_masks_B: languages with a question and with a passage; every example has at least
            one pair.
        different: leave out the pairs of a language with itself.

    Returns:
        question and passage language indices, [B] each.
    """
    questions_BL, passages_BL = _bits(question_masks_B, num_languages), _bits(passage_masks_B, num_languages)
    # Pairs in order of the question's language: x brings one for each passage, in another language where asked for.
    left_out_BL = passages_BL if different else np.zeros_like(passages_BL)
    pairs_BL = np.cumsum(questions_BL * (passages_BL.sum(axis=1, keepdims=True) - left_out_BL), axis=1)
    ranks_B = bounded(numbers_B, pairs_BL[:, -1].astype(np.uint64)).astype(np.int64)
    questions_B = _first_above(pairs_BL, ranks_B)
    rows_B = np.arange(len(ranks_B))
    earlier_B = np.where(questions_B > 0, pairs_BL[rows_B, questions_B - 1], 0)
    if different:
        passages_BL[rows_B, questions_B] = 0
    return questions_B, _first_above(np.cumsum(passages_BL, axis=1), ranks_B - earlier_B)


def draw_weighted_language(numbers_B: UInt64Array, masks_B: UInt64Array, weights_L: Int64Array) -> Int64Array:
    """One of the languages of each mask, with probability proportional to its weight among these: [B].

    Args:
        numbers_B: uniform 64-bit numbers.
        masks_B: the languages to choose from; every mask has one of a weight above 0.
        weights_L: whole numbers whose sum is below 2^32.
    """
    reached_BL = np.cumsum(_bits(masks_B, len(weights_L)) * weights_L, axis=1)
    return _first_above(reached_BL, bounded_widely(numbers_B, reached_BL[:, -1].astype(np.uint64)).astype(np.int64))


def draw_weighted_pair(
    numbers_B: UInt64Array, question_masks_B: UInt64Array, passage_masks_B: UInt64Array, weights_LL: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """An ordered pair of languages for each example, with probability proportional to its weight among those it has.

    Args:
        numbers_B, question_masks_B, passage_masks_B: as of `draw_language_pair`; every example has a pair of a weight
            above 0.
        weights_LL: questions' languages down, passages' across; whole numbers whose sum is below 2^32.

    Returns:
        question and passage language indices, [B] each.
    """
    questions_BL, passages_BL = (_bits(masks_B, len(weights_LL)) for masks_B in (question_masks_B, passage_masks_B))
    reached_BL = np.cumsum(questions_BL * (passages_BL @ weights_LL.T), axis=1)
    ranks_B = bounded_widely(numbers_B, reached_BL[:, -1].astype(np.uint64)).astype(np.int64)
    questions_B = _first_above(reached_BL, ranks_B)
    earlier_B = np.where(questions_B > 0, reached_BL[np.arange(len(ranks_B)), questions_B - 1], 0)
    passages_reached_BL = np.cumsum(passages_BL * weights_LL[questions_B], axis=1)
    return questions_B, _first_above(passages_reached_BL, ranks_B - earlier_B)


def _bits(masks_B: UInt64Array, num_languages: int) -> Int64Array:
    shifts_L = np.arange(num_languages, dtype=np.uint64)
    return ((masks_B[:, None] >> shifts_L) & np.uint64(1)).astype(np.int64)


def _first_above(cumulative_BL: npt.NDArray[np.int64], ranks_B: Int64Array) -> Int64Array:
    """The first column whose cumulative count exceeds the rank."""
    return (cumulative_BL <= ranks_B[:, None]).sum(axis=1)
