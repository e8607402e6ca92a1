"""One process's share of a global batch: its texts, tokenised and cut into chunks that are encoded at once.

Shape suffixes: Q examples of this process, A of them whose query has a translation, N hard-negative slots per example,
E slots for positives beside the passages, n texts of a chunk, T tokens.

The texts of a process stand in *slots*: queries in 0 .. Q-1, passages in Q .. 2Q-1, hard negatives after them, behind
these E further positives, and last, where the loss asks for them, Q slots for translations of the queries. The slot of
a hard negative, or a translation, that the corpus does not have stays empty. E is what the process of the most further
positives has, and 0 where no query has several; the others leave the rest empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybatch.losses import EMPTY_SLOT, GuideVectors
from hybatch.models import Role
from hybatch.processes import gather_objects
from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch
from hybatch.training.step.chunks import Cutting
from hybatch.training.step.further import Further, choose_positives
from hybatch.training.step.guide import GuideTable
from hybatch.training.step.translated import Translated, translate
from hybatch.training.strategy.text_chunk import Features, TextChunk

Tokenize = Callable[[list[str], Role], Features]

_ROLES: dict[str, Role] = {"question": "query", "passage": "passage"}


@dataclass(frozen=True)
class LocalBatch:
    """What one process needs for a step.

    Attributes:
        batch: the global batch, known to every process.
        chunks: in the order in which they are encoded.
        groups_Q: int64 passage groups of the process's examples.
        negative_groups_QN: int64, or None without hard negatives.
        num_tokens: tokens of the process's texts.
        num_padded: tokens that the encoder is given, padding included.
        translated_A: int64, the process's examples whose query has a translation; None where none are asked for.
        num_translated: those of the global batch.
        further: the positives beside the passages; None where no query of the global batch has several.
        guide: another model's vectors of the texts; None where none are asked for.
        scores_QM: float32 [Q, 1 + N], a teacher's of passages and hard negatives, NaN where there is none; None where
            none are asked for.
        has_terms: whether the loss is to be computed with its terms, see `TrainingLoss`.
    """

    batch: GlobalBatch
    chunks: list[TextChunk]
    groups_Q: Tensor
    negative_groups_QN: Tensor | None
    num_tokens: int
    num_padded: int
    translated_A: Tensor | None = None
    num_translated: int = 0
    further: Further | None = None
    guide: GuideVectors | None = None
    scores_QM: Tensor | None = None
    has_terms: bool = False

    @property
    def shapes(self) -> list[list[tuple[int, int]]]:
        """Of every chunk, texts and tokens of each, as the encoder is given them."""
        return [chunk.shapes for chunk in self.chunks]

    def to(self, device: torch.device) -> LocalBatch:
        if device.type == "cpu":
            return self
        negative_groups = None if self.negative_groups_QN is None else self.negative_groups_QN.to(device)
        translated = None if self.translated_A is None else self.translated_A.to(device)
        return replace(
            self,
            chunks=[chunk.to(device) for chunk in self.chunks],
            groups_Q=self.groups_Q.to(device),
            negative_groups_QN=negative_groups,
            translated_A=translated,
            further=None if self.further is None else self.further.to(device),
            guide=None if self.guide is None else self.guide.to(device),
            scores_QM=None if self.scores_QM is None else self.scores_QM.to(device),
        )


def random_seed(*key: int) -> int:
    """A 63-bit seed that is a pure function of `key`, e.g. (run's seed, step, rank, chunk)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def equally_many_chunks(local: LocalBatch) -> LocalBatch:
    """Cut this process's chunks further until it has as many as the process with the most; collective.

    The chunk of the most tokens is halved first. Every process has equally many texts, so that none runs out of them.
    """
    wanted = max(gather_objects(len(local.chunks)))
    chunks = list(local.chunks)
    while len(chunks) < wanted:
        tokens = [sum(n * t for n, t in chunk.shapes) if len(chunk.slots_n) > 1 else 0 for chunk in chunks]
        place = tokens.index(max(tokens))
        chunks[place : place + 1] = chunks[place].halves(random_seed(chunks[place].seed, len(chunks)))
    return replace(local, chunks=chunks)


@dataclass(frozen=True, kw_only=True)
class BatchLoader:
    """Tokenises a process's rows of any step; a pure function of the step, safe to call from another thread.

    Attributes:
        sampler: says which examples a step has.
        tokenize: texts and role -> features; must not share a tokenizer with another thread.
        tokenize_of: the same for data sets whose texts have prompts of their own, by their places.
        rank, world_size: which rows are this process's own.
        cutting: how much is encoded at once. Where every process must have equally many chunks, a hard negative that is
            missing is made up for by the passage, a translation by the query, and a further positive by the first
            passage, which the loss does not look at, so that all have as many texts.
        hard_negatives: slots per example.
        positives: of an example at most; None for all that there are.
        translations: whether an example is given a translation of its query, where it has one.
        guide: gives another model's vectors of the texts; None for none.
        scores: whether an example is given the teacher's scores that the corpus has.
        has_terms: whether the loss is to be computed with its terms.
        seed: the run's.
    """

    sampler: BatchSampler
    tokenize: Tokenize
    tokenize_of: Mapping[int, Tokenize] = field(default_factory=dict)
    rank: int = 0
    world_size: int = 1
    cutting: Cutting = field(default_factory=Cutting)
    hard_negatives: int = 0
    positives: int | None = 1
    translations: bool = False
    guide: GuideTable | None = None
    scores: bool = False
    has_terms: bool = False
    seed: int = 0

    def load(self, step: int) -> LocalBatch:
        batch = self.sampler.batch(step)
        own = replace(self, tokenize=self.tokenize_of.get(batch.dataset, self.tokenize))
        return own._load(batch, step)

    def _load(self, batch: GlobalBatch, step: int) -> LocalBatch:
        """The rows of `step`'s batch, all of whose texts `tokenize` is for."""
        share = len(batch.examples) // self.world_size
        rows = slice(self.rank * share, (self.rank + 1) * share)
        texts = self.sampler.texts(batch, rows)
        positives = choose_positives(self.sampler, batch, rows, self.positives, fill=self.cutting.equal_chunks)
        if positives is not None:
            texts = replace(texts, passages=positives.passages)
        negatives = self._choose_negatives(texts, step) if self.hard_negatives else []
        if self.cutting.equal_chunks:
            negatives = self._fill_slots(negatives, texts.passages)
        others, further = ([], None) if positives is None else (positives.others, positives.further)
        first_other = (2 + self.hard_negatives) * share
        behind = first_other + (0 if further is None else further.num_slots)
        passages = [*texts.passages, *(text for _, text, _ in negatives), *others]
        slots = [*range(share, 2 * share), *(2 * share + slot for slot, _, _ in negatives)]
        slots += range(first_other, first_other + len(others))
        role = _ROLES[texts.query_text]
        pieces = [
            *self.cutting.cut(self.tokenize(texts.questions, role), range(share)),
            *self.cutting.cut(self.tokenize(passages, "passage"), slots),
        ]
        translated = None
        if self.translations:
            translated = translate(self.sampler, batch, rows, texts, fill=self.cutting.equal_chunks)
            pieces += self._cut_translations(translated, role, [behind + example for example in translated.text_of])
        chunks = [
            TextChunk(features, slots_n, random_seed(self.seed, step, self.rank, index), self.cutting.is_padded)
            for index, (features, slots_n) in enumerate(pieces)
        ]
        # Translations are numbered last, which leaves the others' dropout as it is without them; the longest passages
        # are encoded last, which gradient caching spares the second encoding.
        chunks.sort(key=lambda chunk: share <= int(chunk.slots_n[0]) < behind)
        return LocalBatch(
            batch=batch,
            chunks=chunks,
            groups_Q=torch.from_numpy(np.ascontiguousarray(batch.passage_groups[rows])),
            negative_groups_QN=self._negative_groups(negatives, share),
            num_tokens=sum(int(features["attention_mask"].sum()) for features, _ in pieces),
            num_padded=sum(texts * tokens for chunk in chunks for texts, tokens in chunk.shapes),
            translated_A=None if translated is None else torch.from_numpy(translated.examples),
            num_translated=0 if translated is None else translated.num_of_batch,
            further=further,
            guide=None if self.guide is None else self._guide_vectors(self.guide, texts, negatives),
            scores_QM=self._scores(texts, step) if self.scores else None,
            has_terms=self.has_terms,
        )

    def _cut_translations(self, translated: Translated, role: Role, slots: list[int]) -> list[tuple[Features, Tensor]]:
        return self.cutting.cut(self.tokenize(list(translated.text_of.values()), role), slots) if slots else []

    def _scores(self, texts: BatchTexts, step: int) -> Tensor:
        """[Q, 1 + N]; NaN too where a passage asks, of which no score speaks."""
        scores = torch.full((len(texts.passages), 1 + self.hard_negatives), float("nan"))
        if texts.query_text != "question":
            return scores
        start = random_seed(self.seed, step)
        for row, (own, *of_negatives) in enumerate(texts.scores):
            chosen = [of_negatives[index] for index in self._stretch(len(of_negatives), start)]
            scores[row, : 1 + len(chosen)] = torch.tensor([own, *chosen])
        return scores

    def _guide_vectors(
        self, guide: GuideTable, texts: BatchTexts, negatives: list[tuple[int, str, int]]
    ) -> GuideVectors:
        text_of_slot = {slot: text for slot, text, _ in negatives}
        role = _ROLES[texts.query_text]
        return guide.of_batch(texts.questions, role, texts.passages, text_of_slot, self.hard_negatives)

    def _fill_slots(self, negatives: list[tuple[int, str, int]], passages: list[str]) -> list[tuple[int, str, int]]:
        """Add the passage, as a candidate of no query, in every slot that has no hard negative."""
        missing = set(range(len(passages) * self.hard_negatives)) - {slot for slot, _, _ in negatives}
        return negatives + [(slot, passages[slot // self.hard_negatives], EMPTY_SLOT) for slot in sorted(missing)]

    def _choose_negatives(self, texts: BatchTexts, step: int) -> list[tuple[int, str, int]]:
        """Pick (slot, text, group) of the hard negatives of this step: a stretch of each list from a drawn start."""
        start = random_seed(self.seed, step)
        chosen = []
        for row, (candidates, groups) in enumerate(zip(texts.hard_negatives, texts.hard_negative_groups, strict=True)):
            for place, index in enumerate(self._stretch(len(candidates), start)):
                chosen.append((row * self.hard_negatives + place, candidates[index], groups[index]))
        return chosen

    def _stretch(self, number: int, start: int) -> list[int]:
        """Which of so many hard negatives a step takes."""
        return [(start + place) % number for place in range(min(self.hard_negatives, number))]

    def _negative_groups(self, negatives: list[tuple[int, str, int]], share: int) -> Tensor | None:
        if not self.hard_negatives:
            return None
        groups = torch.full((share * self.hard_negatives,), EMPTY_SLOT, dtype=torch.int64)
        for slot, _, group in negatives:
            groups[slot] = group
        return groups.view(share, self.hard_negatives)


def describe(batch: GlobalBatch, sampler: BatchSampler) -> dict[str, Any]:
    """Name a batch for people and logs: kind, data set, language ("mixed" where there is not one)."""
    corpus = sampler.corpora[batch.dataset]
    language = "mixed" if batch.language is None else corpus.languages[batch.language]
    return {"kind": batch.kind, "dataset": corpus.name, "language": language}
