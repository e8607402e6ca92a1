"""One process's share of a global batch: its texts, tokenised and cut into chunks that are encoded at once.

Shape suffixes: Q examples of this process, A of them whose query has a translation, N hard-negative slots per example,
n texts of a chunk, T tokens.

The texts of a process stand in *slots*: queries in 0 .. Q-1, passages in Q .. 2Q-1, hard negatives after them, and
behind these, where the loss asks for them, Q slots for translations of the queries. The slot of a hard negative, or a
translation, that the corpus does not have stays empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hybatch.losses import EMPTY_SLOT
from hybatch.models import Role
from hybatch.sampling import BatchSampler, BatchTexts, GlobalBatch
from hybatch.training.step.translated import translate
from hybatch.training.strategy.text_chunk import Features, TextChunk

Tokenize = Callable[[list[str], Role], Features]

_ROLES: dict[str, Role] = {"question": "query", "passage": "passage"}

# Tokens that could be encoded while the operators of one chunk more are started. On a GPU an estimate, not measured:
# some hundred launches of 10 microseconds, at some hundred thousand tokens a second.
_LAUNCH_COST = {"cpu": 64.0, "cuda": 1000.0}
# Longer chunks are not considered where their size is left open: the search for the best cuts costs texts x size.
_LONGEST_SEARCH = 4096
# Chunks of the queries, and of the passages, where every process must have equally many and their size is left open.
_EQUAL_CHUNKS = 4


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
    """

    batch: GlobalBatch
    chunks: list[TextChunk]
    groups_Q: Tensor
    negative_groups_QN: Tensor | None
    num_tokens: int
    num_padded: int
    translated_A: Tensor | None = None
    num_translated: int = 0

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Texts and tokens per text, padding included, of every chunk."""
        return [tuple(chunk.features["attention_mask"].shape) for chunk in self.chunks]  # type: ignore[misc]

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
        )


def random_seed(*key: int) -> int:
    """A 63-bit seed that is a pure function of `key`, e.g. (run's seed, step, rank, chunk)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def cut_into_chunks(
    features: Features, slots: Sequence[int], chunk_size: int | None, *, chunk_cost: float | None = None
) -> list[tuple[Features, Tensor]]:
    """Cut tokenised texts into chunks of at most `chunk_size`, sorted by length, each padded to its own longest.

    With a `chunk_cost`, what encoding one chunk more costs in tokens that could have been encoded instead, the cuts
    are where the fewest tokens are encoded, padding and cost of the chunks included; without, all chunks but the last
    are full. Of real passages in eleven languages half of what is encoded would be padding in one piece.
    """
    slots_n = torch.as_tensor(slots, dtype=torch.int64)
    if not len(slots_n):
        return []
    mask = features["attention_mask"]
    lengths, order = torch.sort(mask.sum(dim=1), stable=True)
    largest = min(len(slots_n), chunk_size or _LONGEST_SEARCH)
    sizes: int | list[int] = largest if chunk_cost is None else _best_sizes(lengths.numpy(), largest, chunk_cost)
    padded_left = not bool(mask[:, 0].all())
    chunks = []
    for rows, its_lengths in zip(order.split(sizes), lengths.split(sizes), strict=True):
        longest = int(its_lengths[-1])
        kept = slice(-longest, None) if padded_left else slice(None, longest)
        chunks.append(({name: tensor[rows, kept] for name, tensor in features.items()}, slots_n[rows]))
    return chunks


def _best_sizes(lengths_n: NDArray[np.int64], largest: int, chunk_cost: float) -> list[int]:
    """Sizes of the chunks that cost least; `lengths_n` ascend.

    The best way to cut the first texts, for every number of them, from the best ways to cut fewer.
    """
    cost = np.zeros(len(lengths_n) + 1)
    last_size = np.zeros(len(lengths_n) + 1, dtype=np.int64)
    sizes = np.arange(largest, 0, -1)
    for end, longest in enumerate(lengths_n.tolist(), start=1):
        allowed = sizes[max(0, largest - end) :]
        options = cost[end - len(allowed) : end] + allowed * longest
        best = int(options.argmin())
        cost[end], last_size[end] = options[best] + chunk_cost, allowed[best]
    chosen = []
    end = len(lengths_n)
    while end:
        chosen.append(int(last_size[end]))
        end -= chosen[-1]
    return chosen[::-1]


def cost_of_a_chunk(encoder: nn.Module) -> float:
    """What one chunk more costs in the backward pass, in tokens: every chunk writes a gradient of the whole embedding.

    A chunk costs memory traffic in proportion to the embedding table; a token costs arithmetic in proportion to the
    other weights, and element-wise work in proportion to the width. With the constants below a mean of 16,000 subword
    embeddings of width 256 is cut at 3,000 tokens saved, where its step was fastest on a CPU; encoders of several
    layers are cut whenever padding is saved.
    """
    tables = [module for module in encoder.modules() if isinstance(module, nn.Embedding)]
    table = sum(module.weight.numel() for module in tables)
    others = sum(parameter.numel() for parameter in encoder.parameters()) - table
    width = max((module.embedding_dim for module in tables), default=0)
    launch = _LAUNCH_COST.get(next(encoder.parameters()).device.type, _LAUNCH_COST["cuda"])
    return launch + 100 * table / max(1, others + 500 * width)


@dataclass(frozen=True, kw_only=True)
class BatchLoader:
    """Tokenises a process's rows of any step; a pure function of the step, safe to call from another thread.

    Attributes:
        sampler: says which examples a step has.
        tokenize: texts and role -> features; must not share a tokenizer with another thread.
        rank, world_size: which rows are this process's own.
        chunk_size: texts encoded at once; None where memory does not matter.
        chunk_cost: see `cost_of_a_chunk`.
        equal_chunks: cut into as many chunks on every process, where encoding one is a collective: the number depends
            on the batch and chunk size alone, not on the lengths of this process's texts, and a hard negative or a
            translation that is missing is made up for by the passage or the query, which the loss does not look at.
        hard_negatives: slots per example.
        translations: whether an example is given a translation of its query, where it has one.
        seed: the run's.
    """

    sampler: BatchSampler
    tokenize: Tokenize
    rank: int = 0
    world_size: int = 1
    chunk_size: int | None = None
    chunk_cost: float | None = None
    equal_chunks: bool = False
    hard_negatives: int = 0
    translations: bool = False
    seed: int = 0

    def load(self, step: int) -> LocalBatch:
        batch = self.sampler.batch(step)
        share = len(batch.examples) // self.world_size
        rows = slice(self.rank * share, (self.rank + 1) * share)
        texts = self.sampler.texts(batch, rows)
        negatives = self._choose_negatives(texts, step) if self.hard_negatives else []
        if self.equal_chunks:
            negatives = self._fill_slots(negatives, texts.passages)
        passages = texts.passages + [text for _, text, _ in negatives]
        slots = [*range(share, 2 * share), *(2 * share + slot for slot, _, _ in negatives)]
        role = _ROLES[texts.query_text]
        translated = None
        pieces: list[tuple[Features, Tensor]] = []
        if self.translations:
            translated = translate(self.sampler, batch, rows, texts, fill=self.equal_chunks)
            places = [(2 + self.hard_negatives) * share + example for example in translated.text_of]
            if places:
                pieces += self._cut(self.tokenize(list(translated.text_of.values()), role), places)
        # Seeds are counted from the queries on: what is encoded beside them leaves their dropout, and the passages', as
        # it is. The passages stay last, where gradient caching spares the second encoding.
        beside = len(pieces)
        pieces += self._cut(self.tokenize(texts.questions, role), range(share))
        pieces += self._cut(self.tokenize(passages, "passage"), slots)
        return LocalBatch(
            batch=batch,
            chunks=[
                TextChunk(features, slots_n, random_seed(self.seed, step, self.rank, (place - beside) % len(pieces)))
                for place, (features, slots_n) in enumerate(pieces)
            ],
            groups_Q=torch.from_numpy(np.ascontiguousarray(batch.passage_groups[rows])),
            negative_groups_QN=self._negative_groups(negatives, share),
            num_tokens=sum(int(features["attention_mask"].sum()) for features, _ in pieces),
            num_padded=sum(features["attention_mask"].numel() for features, _ in pieces),
            translated_A=None if translated is None else torch.from_numpy(translated.examples),
            num_translated=0 if translated is None else translated.num_of_batch,
        )

    def _cut(self, features: Features, slots: Sequence[int]) -> list[tuple[Features, Tensor]]:
        size = self.chunk_size
        if size is None and self.equal_chunks:
            size = -(-len(slots) // _EQUAL_CHUNKS)
        return cut_into_chunks(features, slots, size, chunk_cost=None if self.equal_chunks else self.chunk_cost)

    def _fill_slots(self, negatives: list[tuple[int, str, int]], passages: list[str]) -> list[tuple[int, str, int]]:
        """Add the passage, as a candidate of no query, in every slot that has no hard negative."""
        missing = set(range(len(passages) * self.hard_negatives)) - {slot for slot, _, _ in negatives}
        return negatives + [(slot, passages[slot // self.hard_negatives], EMPTY_SLOT) for slot in sorted(missing)]

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
