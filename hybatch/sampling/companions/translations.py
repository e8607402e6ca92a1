"""Which examples have their query in another language, too, and what it says there.

Beside a batch, each of its examples may be given a translation of its query: the question, or the passage that stands
for one, in another of the languages trained on. Shapes: B examples of a batch, n of them or fewer.
"""

from __future__ import annotations

import numpy as np

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.sampling.keyed import Int64Array, derive_key, draws, subkey
from hybatch.sampling.kinds import KINDS, Text
from hybatch.sampling.languages import draw_language
from hybatch.sampling.sampler import BatchSampler, GlobalBatch
from hybatch.sampling.usable import Selection, language_mask, open_usable

NO_LANGUAGE = -1


def translation_languages(sampler: BatchSampler, batch: GlobalBatch) -> Int64Array:
    """A language for each example that its query stands in, too: one of those trained on, each equally likely.

    A pure function of what the batch is one of, as `BatchSampler` says.

    Returns:
        [B] indices into the data set's languages; `NO_LANGUAGE` where there is no other.
    """
    corpus = sampler.corpora[batch.dataset]
    has_text = corpus.question_mask if _query_text(batch) == "question" else corpus.passage_mask
    own_B = np.uint64(1) << batch.question_languages.astype(np.uint64)
    masks_B = has_text(batch.examples) & np.uint64(language_mask(corpus, _trained(sampler, corpus))) & ~own_B
    numbers_B = draws(subkey(derive_key("translations", sampler.seed), batch.step), np.arange(len(masks_B)))
    languages_B = np.full(len(masks_B), NO_LANGUAGE, dtype=np.int64)
    there = masks_B != 0
    languages_B[there] = draw_language(numbers_B[there], masks_B[there], len(corpus.languages))
    return languages_B


def translations(sampler: BatchSampler, batch: GlobalBatch, rows: Int64Array, languages: Int64Array) -> list[str]:
    """The queries of some rows of a batch, in languages that `translation_languages` gave them: n texts."""
    corpus = sampler.corpora[batch.dataset]
    read = corpus.questions if _query_text(batch) == "question" else corpus.passages
    return read(batch.examples[rows], languages)


def without_translations(sampler: BatchSampler, *, progress: bool) -> list[str]:
    """A line on every data set of the run of which some examples have their query in one language only.

    Raises:
        UserError: no example of any has it in two.
    """
    lines, found = [], False
    for dataset, text in sorted({(cell.dataset, KINDS[cell.kind].query_text) for cell in sampler.cells}):
        corpus = sampler.corpora[dataset]
        alone = corpus.num_examples - _num_translated(corpus, _trained(sampler, corpus), text, progress=progress)
        found |= alone < corpus.num_examples
        if alone:
            lines.append(
                f"{corpus.name}: {alone:,} of {corpus.num_examples:,} examples have no {text} in a second language "
                "trained on"
            )
    if not found:
        raise UserError(
            "loss.alignment brings queries and their translations together, but there are none:\n  "
            + "\n  ".join(lines)
            + "\nAdd data or languages, or leave loss.alignment out."
        )
    return [f"without alignment: {line}" for line in lines]


def _num_translated(corpus: ParallelCorpus, trained: tuple[str, ...], text: Text, *, progress: bool) -> int:
    if len(trained) < 2:
        return 0
    selection = Selection("different", trained, texts=(text, text))
    return len(open_usable(corpus, [selection], progress=progress)[selection])


def _trained(sampler: BatchSampler, corpus: ParallelCorpus) -> tuple[str, ...]:
    return tuple(code for code in corpus.languages if code in sampler.languages)


def _query_text(batch: GlobalBatch) -> Text:
    return KINDS[batch.kind].query_text
