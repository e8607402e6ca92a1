"""Results with the names that tables give them, task by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hybatch.reporting.results import LanguageResults, PairResults

R = TypeVar("R", bound=PairResults | LanguageResults, covariant=True)


@dataclass(frozen=True)
class Measured(Generic[R]):
    """One results.json and what the tables call it."""

    label: str
    results: R


def by_task(measured: Sequence[Measured[R]]) -> dict[str, list[Measured[R]]]:
    """Results by what they measured, which do not compare with others: the task, the languages, and the data.

    A task over other languages than another result of it carries their names, one on other data (two corpora of one's
    own, say) the first letters of its data's digest. Results from before the digest was written stand with the others,
    unless these are of several data.
    """
    data: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for one in measured:
        found = data.setdefault((one.results.task, one.results.languages), set())
        if one.results.data_digest is not None:
            found.add(one.results.data_digest)
    languages_of = Counter(task for task, _ in data)
    groups: dict[str, list[Measured[R]]] = {}
    for one in measured:
        task, languages = one.results.task, one.results.languages
        words = [" ".join(languages)] if languages_of[task] > 1 else []
        if len(data[task, languages]) > 1:
            words.append(f"data {(one.results.data_digest or 'unknown')[:8]}")
        groups.setdefault(f"{task} ({', '.join(words)})" if words else task, []).append(one)
    return groups
