"""One process's share of a global batch: its texts, tokenised and cut into chunks that are encoded at once.

Shape suffixes: Q examples of this process, N hard-negative slots per example, n texts of a chunk, T tokens.

The texts of a process stand in *slots*: queries in 0 .. Q-1, passages in Q .. 2Q-1, hard negatives after them. The
slot of a hard negative that the corpus does not have stays empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hybatch.losses import EMPTY_SLOT
from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch

Features = dict[str, Tensor]
Tokenize = Callable[[list[str], Literal["query", "passage"]], Features]

# Smaller chunks than this leave a device too little to do at once.
_FEWEST_TEXTS = 32


@dataclass(frozen=True)
class TextChunk:
    """Texts that go through the encoder together.

    Attributes:
        features: what the encoder takes; every tensor is [n, T].
        slots_n: int64 [n], the slot of each text.
        seed: of the random numbers (dropout) that its encoding draws.
    """

    features: Features
    slots_n: Tensor
    seed: int

    def to(self, device: torch.device) -> TextChunk:
        features = {name: tensor.to(device, non_blocking=True) for name, tensor in self.features.items()}
        return replace(self, features=features, slots_n=self.slots_n.to(device, non_blocking=True))


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
    """

    batch: GlobalBatch
    chunks: list[TextChunk]
    groups_Q: Tensor
    negative_groups_QN: Tensor | None
    num_tokens: int
    num_padded: int

    def to(self, device: torch.device) -> LocalBatch:
        if device.type == "cpu":
            return self
        negative_groups = None if self.negative_groups_QN is None else self.negative_groups_QN.to(device)
        return replace(
            self,
            chunks=[chunk.to(device) for chunk in self.chunks],
            groups_Q=self.groups_Q.to(device),
            negative_groups_QN=negative_groups,
        )


def random_seed(*key: int) -> int:
    """A 63-bit seed that is a pure function of `key`, e.g. (run's seed, step, rank, chunk)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def cut_into_chunks(
    features: Features, slots: Sequence[int], chunk_size: int | None, most_chunks: int = 4
) -> list[tuple[Features, Tensor]]:
    """Cut tokenised texts into chunks of at most `chunk_size`, sorted by length, each padded to its own longest.

    Without a chunk size they are cut into at most `most_chunks` for the sake of less padding: of real passages in
    eleven languages half of what is encoded would be padding in one piece.
    """
    slots_n = torch.as_tensor(slots, dtype=torch.int64)
    if chunk_size is None:
        chunk_size = max(_FEWEST_TEXTS, -(-len(slots_n) // most_chunks))
    if len(slots_n) <= chunk_size:
        return [(features, slots_n)] if len(slots_n) else []
    mask = features["attention_mask"]
    lengths = mask.sum(dim=1)
    padded_left = not bool(mask[:, 0].all())
    chunks = []
    for order in torch.argsort(lengths, stable=True).split(chunk_size):
        longest = int(lengths[order].max())
        kept = slice(-longest, None) if padded_left else slice(None, longest)
        chunks.append(({name: tensor[order, kept] for name, tensor in features.items()}, slots_n[order]))
    return chunks


@dataclass(frozen=True, kw_only=True)
class BatchLoader:
    """Tokenises a process's rows of any step; a pure function of the step, safe to call from another thread.

    Attributes:
        sampler: says which examples a step has.
        tokenize: texts and role -> features; must not share a tokenizer with another thread.
        rank, world_size: which rows are this process's own.
        chunk_size: texts encoded at once; None where memory does not matter.
        most_chunks: into which the queries, and the passages, are cut where there is no chunk size.
        hard_negatives: slots per example.
        seed: the run's.
    """

    sampler: BatchSampler
    tokenize: Tokenize
    rank: int = 0
    world_size: int = 1
    chunk_size: int | None = None
    most_chunks: int = 4
    hard_negatives: int = 0
    seed: int = 0

    def load(self, step: int) -> LocalBatch:
        batch = self.sampler.batch(step)
        share = len(batch.examples) // self.world_size
        rows = slice(self.rank * share, (self.rank + 1) * share)
        texts = self.sampler.texts(batch, rows)
        negatives = self._choose_negatives(texts, step) if self.hard_negatives else []
        passages = texts.passages + [text for _, text, _ in negatives]
        slots = [*range(share, 2 * share), *(2 * share + slot for slot, _, _ in negatives)]
        cut = partial(cut_into_chunks, chunk_size=self.chunk_size, most_chunks=self.most_chunks)
        pieces = [
            *cut(self.tokenize(texts.questions, "query"), range(share)),
            *cut(self.tokenize(passages, "passage"), slots),
        ]
        return LocalBatch(
            batch=batch,
            chunks=[
                TextChunk(features, slots_n, random_seed(self.seed, step, self.rank, index))
                for index, (features, slots_n) in enumerate(pieces)
            ],
            groups_Q=torch.from_numpy(np.ascontiguousarray(batch.passage_groups[rows])),
            negative_groups_QN=self._negative_groups(negatives, share),
            num_tokens=sum(int(features["attention_mask"].sum()) for features, _ in pieces),
            num_padded=sum(features["attention_mask"].numel() for features, _ in pieces),
        )

    def _choose_negatives(self, texts: BatchTexts, step: int) -> list[tuple[int, str, int]]:
        """Pick (slot, text, group) of the hard negatives of this step: a stretch of each list from a drawn start."""
        start = random_seed(self.seed, step)
        chosen = []
        for row, (candidates, groups) in enumerate(zip(texts.hard_negatives, texts.hard_negative_groups, strict=True)):
            for place in range(min(self.hard_negatives, len(candidates))):
                index = (start + place) % len(candidates)
                chosen.append((row * self.hard_negatives + place, candidates[index], groups[index]))
        return chosen

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
