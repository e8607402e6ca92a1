"""Parallel corpora in memory, with the interface of the real one, for tests that need many small or odd ones."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.corpus import ParallelCorpus
from hybatch.sampling import BatchSampler, SamplingConfig


class FakeCorpus(ParallelCorpus):
    """A corpus given by its masks and groups. Texts are "<example> <language> q|p"; one that is missing raises."""

    def __init__(
        self,
        directory: Path,
        *,
        languages: Sequence[str],
        question_mask: Sequence[int],
        passage_mask: Sequence[int],
        groups: Sequence[int] | None = None,
        name: str = "fake",
        has_hard_negatives: bool = False,
    ) -> None:
        self.name = name
        self.languages = tuple(languages)
        self._masks = {
            "question": np.array(question_mask, dtype=np.uint64),
            "passage": np.array(passage_mask, dtype=np.uint64),
        }
        self.num_examples = len(question_mask)
        numbers = np.arange(self.num_examples) if groups is None else np.asarray(groups)
        self._groups = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
        self.num_groups = int(self._groups.max(initial=-1)) + 1
        self.has_hard_negatives = has_hard_negatives
        self.has_positives = False
        self.has_scores = False
        content = repr((self.languages, self._masks["question"].tolist(), self._masks["passage"].tolist()))
        self.fingerprint = hashlib.sha256((content + repr(self._groups.tolist())).encode()).hexdigest()
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)

    def __reduce__(self) -> Any:
        raise NotImplementedError

    def ids(self, indices: Any) -> list[str]:
        return [f"id-{index}" for index in indices]

    def passage_groups(self, indices: Any) -> Any:
        return self._groups[indices]

    def question_mask(self, indices: Any) -> Any:
        return self._masks["question"][indices]

    def passage_mask(self, indices: Any) -> Any:
        return self._masks["passage"][indices]

    def questions(self, indices: Any, language_indices: Any) -> list[str]:
        return self._fake_texts("question", indices, language_indices)

    def passages(self, indices: Any, language_indices: Any) -> list[str]:
        return self._fake_texts("passage", indices, language_indices)

    def _fake_texts(self, role: str, indices: Any, language_indices: Any) -> list[str]:
        texts = []
        for index, language in zip(indices, language_indices, strict=True):
            if not int(self._masks[role][index]) >> int(language) & 1:
                raise ValueError(f"example {index} has no {role} in {self.languages[language]}")
            texts.append(f"{index} {self.languages[language]} {role[0]}")
        return texts

    def hard_negatives(self, indices: Any, language_indices: Any) -> list[list[str]]:
        return [[f"{i} {self.languages[k]} n"] for i, k in zip(indices, language_indices, strict=True)]

    def hard_negative_groups(self, indices: Any, language_indices: Any) -> list[list[int]]:
        return [[-1] for _ in indices]

    def answering_groups(self, indices: Any, language_indices: Any) -> list[list[int]]:
        return [[] for _ in indices]


FOLDERS = tempfile.TemporaryDirectory(prefix="hybatch-cells-")
"""Removed when the process ends, or the test session: a worker of xdist ends without the interpreter's clean-up."""


def fresh_folder() -> Path:
    """A new empty folder for one corpus's cache; hypothesis makes many within a test, a fixture only one."""
    return Path(tempfile.mkdtemp(dir=FOLDERS.name))


def full_corpus(
    num_examples: int, languages: Sequence[str], *, groups: Sequence[int] | None = None, name: str = "fake"
) -> FakeCorpus:
    """Every example has question and passage in every language."""
    masks = [(1 << len(languages)) - 1] * num_examples
    return FakeCorpus(
        fresh_folder(), languages=languages, question_mask=masks, passage_mask=masks, groups=groups, name=name
    )


def ragged_corpus(num_examples: int, languages: Sequence[str], *, seed: int = 0, name: str = "fake") -> FakeCorpus:
    """Every text is there or missing at the toss of a coin; about a quarter of the examples share a passage group."""
    generator = np.random.default_rng(seed)
    masks = generator.integers(0, 1 << len(languages), size=(2, num_examples)).tolist()
    groups = np.where(generator.random(num_examples) < 0.25, np.arange(num_examples) // 7, np.arange(num_examples))
    return FakeCorpus(
        fresh_folder(),
        languages=languages,
        question_mask=masks[0],
        passage_mask=masks[1],
        groups=groups.tolist(),
        name=name,
    )


def sampler_of(*corpora: FakeCorpus, total_steps: int = 50, seed: int = 0, **options: object) -> BatchSampler:
    return BatchSampler(corpora, SamplingConfig(**options), seed=seed, total_steps=total_steps, progress=False)


def few_thai() -> FakeCorpus:
    """300 examples in English and German, of which 74 are in Thai too."""
    masks = [0b111 if row < 74 else 0b011 for row in range(300)]
    return FakeCorpus(
        fresh_folder(), name="sentences", languages=("de", "en", "th"), question_mask=masks, passage_mask=masks
    )
