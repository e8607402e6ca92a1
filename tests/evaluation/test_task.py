"""What a task of any kind is to the command, and what is refused of its texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.bitext import BitextTask
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.language_figures import figures_results
from hybatch.evaluation.results import read_any_results
from hybatch.evaluation.settings.per_query import QueryTables, language_query_tables
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import Part, ScoringOptions, TextsTask
from hybatch.models import Role


@dataclass(frozen=True)
class SimilarityTask(TextsTask):
    """Pairs of sentences with a grade: a kind that the package does not have."""

    grades: Mapping[str, Sequence[float]]

    roles: ClassVar[Mapping[Part, Role]] = {"queries": "query", "candidates": "query"}

    def score_embeddings(
        self, embeddings: TaskEmbeddings, *, model: str, options: ScoringOptions, per_query: QueryTables
    ) -> dict[str, Any]:
        figures, single = {}, {}
        for language in self.languages:
            first, second = (embeddings.embeddings(part, language) for part in ("queries", "candidates"))
            error = np.abs((first * second).sum(axis=1) - np.array(self.grades[language])).astype(np.float64)
            figures[language] = {"error": float(error.mean()), "num_queries": len(error)}
            single[language] = {"error": error}
        ids = {language: [str(row) for row in range(len(self.queries[language]))] for language in figures}
        per_query.update(language_query_tables(ids, single))
        return figures_results(embeddings, self, figures, model=model)


def test_a_task_of_a_new_kind_is_scored_without_the_command_knowing_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_: Path, languages: Sequence[str]) -> SimilarityTask:
        texts = {x: [f"{x} one", f"{x} two"] for x in languages}
        return SimilarityTask("similar", tuple(languages), texts, texts, {x: [1.0, 0.5] for x in languages})

    entry = TaskEntry(
        name="similar",
        summary="sentences and their likeness",
        languages=("aa", "bb"),
        settings="pairs",
        metric="error",
        source="this test",
        licence="Apache-2.0",
        load=load,
    )
    monkeypatch.setitem(TASKS, "similar", entry)
    outcome = evaluate(["--task", "similar", "--model", str(model), "--output", str(tmp_path / "out")])
    assert outcome.results["figures"] == {
        x: {"error": pytest.approx(0.25, abs=1e-6), "num_queries": 2} for x in ("aa", "bb")
    }
    assert read_any_results(tmp_path / "out" / "results.json") == outcome.results
    assert "0.2500" in capsys.readouterr().out


def test_half_a_surrogate_pair_in_a_task_is_named_before_a_model_is_loaded() -> None:
    task = BitextTask("b", ("xx",), {"xx": ["fine", "smile 😀"]}, {"xx": ["good", "cut \ud83d"]})
    with pytest.raises(UserError, match=r"task b: number 1 of the candidates in xx, 'cut .ud83d', holds half"):
        task.check(Source(model="nowhere"), ScoringOptions())
    task.check(Source(ready=Path("vectors")), ScoringOptions())
