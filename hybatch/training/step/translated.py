"""Translations of a process's queries, which the alignment term of a loss asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch
from hybatch.sampling.companions.translations import NO_LANGUAGE, translation_languages, translations


@dataclass(frozen=True)
class Translated:
    """Attributes:
    examples: int64, those of the process whose query has a translation, counted from its first.
    text_of: what is encoded in the place of an example's translation.
    num_of_batch: examples of the global batch whose query has one.
    """

    examples: NDArray[np.int64]
    text_of: dict[int, str]
    num_of_batch: int


def translate(
    sampler: BatchSampler, batch: GlobalBatch, rows: slice, texts: BatchTexts, *, fill: bool = False
) -> Translated:
    """Translate the queries of a process's rows of a batch.

    Args:
        texts: of these rows.
        fill: put the query itself, which the loss does not look at, in the place of a translation that is missing.
    """
    languages = translation_languages(sampler, batch)
    there = languages != NO_LANGUAGE
    own = np.flatnonzero(there[rows])
    found = translations(sampler, batch, own + rows.start, languages[rows][own])
    text_of = dict(enumerate(texts.questions)) if fill else {}
    text_of |= zip(own.tolist(), found, strict=True)
    return Translated(own, text_of, int(there.sum()))
