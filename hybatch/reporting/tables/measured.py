"""Results with the names that tables give them, task by task."""

from __future__ import annotations

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
    """Results by task; a task over fewer languages than another result of it carries their names."""
    groups: dict[tuple[str, tuple[str, ...]], list[Measured[R]]] = {}
    for one in measured:
        groups.setdefault((one.results.task, one.results.languages), []).append(one)
    tasks = [task for task, _ in groups]
    return {
        task if tasks.count(task) == 1 else f"{task} ({' '.join(languages)})": group
        for (task, languages), group in groups.items()
    }
