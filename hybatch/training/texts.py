"""Go through the texts of corpora, all of them or evenly spaced ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import get_args

import numpy as np
from tqdm import tqdm

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.models import Encoder, Role

_BLOCK = 8192


def all_texts(
    corpora: Sequence[ParallelCorpus], languages: Sequence[str] | None = None, *, every: int = 1
) -> Iterator[str]:
    """Every question and passage in the given languages (default: all), language by language.

    Args:
        every: take one example in so many.
    """
    for corpus in corpora:
        for index, language in enumerate(corpus.languages):
            if languages is not None and language not in languages:
                continue
            bit = np.uint64(1 << index)
            for start in range(0, corpus.num_examples, _BLOCK * every):
                block = np.arange(start, min(start + _BLOCK * every, corpus.num_examples), every)
                for mask, read in (
                    (corpus.question_mask, corpus.questions),
                    (corpus.passage_mask, corpus.passages),
                ):
                    present = block[(mask(block) & bit) != 0]
                    yield from read(present, np.full(len(present), index))


def texts_in_role(
    corpora: Sequence[ParallelCorpus], languages: Sequence[str], role: Role, hard_negatives: bool
) -> Iterator[str]:
    """Every text in the given languages that is encoded in a role: questions, or passages and with them other positives
    and, where asked for, their hard negatives.
    """
    for corpus in corpora:
        mask_of = corpus.question_mask if role == "query" else corpus.passage_mask
        for index, language in enumerate(corpus.languages):
            if language not in languages:
                continue
            for start in range(0, corpus.num_examples, _BLOCK):
                block = np.arange(start, min(start + _BLOCK, corpus.num_examples))
                present = block[(mask_of(block) & np.uint64(1 << index)) != 0]
                languages_n = np.full(len(present), index)
                if role == "query":
                    yield from corpus.questions(present, languages_n)
                    continue
                yield from corpus.passages(present, languages_n)
                if corpus.has_positives:
                    yield from (text for row in corpus.positives(present, languages_n) for text, _ in row)
                if hard_negatives:
                    yield from chain.from_iterable(corpus.hard_negatives(present, languages_n))


def refuse_tokenless_texts(
    encoder: Encoder, corpora: Sequence[ParallelCorpus], languages: Sequence[str], *, hard_negatives: bool
) -> None:
    """Look, before long work, for texts that the tokenizer leaves nothing of; a step that meets one ends the run.

    Raises:
        UserError: names the corpus and the first such text.
    """
    roles: tuple[Role, ...] = get_args(Role)
    for corpus in corpora:
        for role in roles:
            texts = texts_in_role([corpus], languages, role, hard_negatives)
            bar = tqdm(texts, desc=f"{corpus.name}: texts without a token", unit_scale=True, delay=5, leave=False)
            try:
                encoder.refuse_tokenless(bar, role)
            except UserError as error:
                raise UserError(f"{corpus.name}: {error}") from error


def some_texts(corpora: Sequence[ParallelCorpus], languages: Sequence[str], number: int) -> Iterator[str]:
    """About `number` texts, or all if there are fewer, evenly spaced over each corpus and language.

    Reading stays in proportion to `number`, however large the corpora are.
    """
    there = sum(2 * c.num_examples * len(set(c.languages) & set(languages)) for c in corpora)
    return all_texts(corpora, languages, every=max(1, there // number))
