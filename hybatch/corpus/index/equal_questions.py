"""Which examples ask the same, word for word, in a language: all of their passages answer it.

`equal-questions.<lang>.npy` beside the tables, where a language has such: int64 [4, m] over the m examples whose
question stands in several: `example` ascending, `first` and `count` of the examples that ask what this one asks, and
these examples themselves, question by question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybatch.atomic import atomic_file
from hybatch.corpus.index.keys import first_occurrence, keys_of

_TEXTS_AT_ONCE = 1 << 16


def file_of(language: str) -> str:
    """Name of the file of a language."""
    return f"equal-questions.{language}.npy"


def write_equal_questions(
    path: Path,
    examples: NDArray[np.int64],
    rows: NDArray[np.int64],
    texts: Callable[[NDArray[np.int64]], list[str]],
) -> bool:
    """Write the file of a language, unless every question of it is asked once; whether it was written.

    Args:
        examples: [n] ascending, those with a question in the language.
        rows: [n] where their questions stand.
        texts: gives the questions at some rows.
    """
    distinct, place_of_example = np.unique(rows, return_inverse=True)
    question = _first_equal(distinct, texts)[place_of_example]
    count = np.bincount(question, minlength=len(distinct))
    repeated = count[question] > 1
    if not repeated.any():
        return False
    examples, question = examples[repeated], question[repeated]
    by_question = np.argsort(question, kind="stable")
    asked, firsts = np.unique(question[by_question], return_index=True)
    first = firsts[np.searchsorted(asked, question)]
    with atomic_file(path, "wb") as file:
        np.save(file, np.stack([examples, first, count[question], examples[by_question]]))
    return True


def _first_equal(rows: NDArray[np.int64], texts: Callable[[NDArray[np.int64]], list[str]]) -> NDArray[np.int64]:
    """For every row [n] the place in `rows` of the first with an equal text."""
    blocks = [rows[start : start + _TEXTS_AT_ONCE] for start in range(0, len(rows), _TEXTS_AT_ONCE)]
    keys = [keys_of(texts(block)) for block in blocks]
    return first_occurrence(np.concatenate(keys) if keys else np.zeros((0, 2), dtype=np.uint64))


class EqualQuestions:
    """The file of a language, mapped."""

    def __init__(self, path: Path) -> None:
        self._examples, self._firsts, self._counts, self._members = np.load(path, mmap_mode="r")

    def asking_the_same(self, examples: NDArray[np.int64]) -> Sequence[tuple[int, NDArray[np.int64]]]:
        """(i, all that ask the same as examples[i], itself among them) for those i whose question is asked again."""
        at = np.searchsorted(self._examples, examples)
        at[at == len(self._examples)] = 0
        found = np.flatnonzero(self._examples[at] == examples)
        firsts, counts = self._firsts[at[found]].tolist(), self._counts[at[found]].tolist()
        return [
            (place, np.asarray(self._members[first : first + count]))
            for place, first, count in zip(found.tolist(), firsts, counts, strict=True)
        ]
