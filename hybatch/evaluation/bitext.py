"""Translation retrieval: how often a sentence's nearest neighbour in the other language is its translation.

N sentence pairs of one language, H embedding width, k neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.language_figures import figures_results
from hybatch.evaluation.settings.per_query import QueryTables, language_query_tables
from hybatch.evaluation.task import Part, ScoringOptions, TextsTask
from hybatch.models import Role
from hybatch.ops.products import float32_products

NEIGHBOURS = 4


@dataclass(frozen=True)
class BitextTask(TextsTask):
    """Sentences of several languages, each with its translation into one pivot language: line i translates line i.

    `subsets` names groups of the languages whose means are reported beside that of all; the translations are written in
    `pivot`.
    """

    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pivot: str = "eng"

    # Both sides are sentences of one kind: an encoder with prefixes must give both the same.
    roles: ClassVar[Mapping[Part, Role]] = {"queries": "query", "candidates": "query"}

    def language_of(self, part: Part, language: str) -> str:
        """As `TextsTask.language_of`: candidates are in the pivot language."""
        return self.pivot if part == "candidates" else language

    def score_embeddings(
        self, embeddings: TaskEmbeddings, *, model: str, options: ScoringOptions, per_query: QueryTables
    ) -> dict[str, Any]:
        """As `TextsTask.score_embeddings`, see `score_bitext`."""
        return score_bitext(embeddings, self, model=model, device=options.device, per_query=per_query)


def score_bitext(
    embeddings: TaskEmbeddings,
    task: BitextTask,
    *,
    model: str,
    device: torch.device | str = "cpu",
    per_query: QueryTables | None = None,
) -> dict[str, Any]:
    """Accuracy per language, both ways, by cosine and by ratio margin.

    `to_pivot`: sentences asked, translations retrieved; `from_pivot`: the reverse. Equal scores go to the earlier line.

    Args:
        per_query: filled, where given, with which line was found right, see `hybatch.evaluation.settings.per_query`.

    Returns:
        what results.json holds, see `figures_results`.
    """
    figures, correct = {}, {}
    for language in task.languages:
        sides = (embeddings.embeddings(part, language) for part in ("queries", "candidates"))
        sentences_NH, translations_NH = (torch.from_numpy(np.ascontiguousarray(rows)).to(device) for rows in sides)
        with float32_products(sentences_NH.device):
            scores_NN = sentences_NH @ translations_NH.T
        margins_NN = ratio_margins(scores_NN)
        correct[language] = {
            "accuracy_to_pivot": first_on_diagonal(scores_NN),
            "accuracy_from_pivot": first_on_diagonal(scores_NN.T),
            "margin_accuracy_to_pivot": first_on_diagonal(margins_NN),
            "margin_accuracy_from_pivot": first_on_diagonal(margins_NN.T),
        }
        means = {metric: float(values_N.mean()) for metric, values_N in correct[language].items()}
        figures[language] = {**means, "num_queries": len(scores_NN)}
    if per_query is not None:
        ids = {language: [str(line) for line in range(len(task.queries[language]))] for language in task.languages}
        per_query.update(language_query_tables(ids, correct))
    return figures_results(embeddings, task, figures, model=model, subsets=task.subsets)


def ratio_margins(scores_NN: torch.Tensor, neighbours: int = NEIGHBOURS) -> torch.Tensor:
    """Each score over the mean of the scores of both sentences' k nearest neighbours on the other side.

    margin(x, y) = cos(x, y) / (sum over z in NN_k(x) of cos(x, z) / 2k + sum over z in NN_k(y) of cos(z, y) / 2k):
    the ratio margin of Artetxe and Schwenk, "Margin-based parallel corpus mining" (ACL 2019, arXiv 1811.01136).
    Computed for all pairs, not only for neighbours. With fewer than k sentences, of all there are.
    """
    k = min(neighbours, *scores_NN.shape)
    rows_N = scores_NN.topk(k, dim=1).values.mean(dim=1)
    columns_N = scores_NN.topk(k, dim=0).values.mean(dim=0)
    return scores_NN / ((rows_N[:, None] + columns_N[None, :]) / 2)


def first_on_diagonal(scores_NN: torch.Tensor) -> np.ndarray:
    """float64 [N]: 1 where a row's greatest score, the first where several are equal, stands on the diagonal."""
    best_N = scores_NN.max(dim=1, keepdim=True).values
    columns = scores_NN.shape[1]
    index_NN = torch.arange(columns, device=scores_NN.device).expand_as(scores_NN)
    first_N = torch.where(scores_NN == best_N, index_NN, columns).min(dim=1).values
    return (first_N == torch.arange(len(scores_NN), device=scores_NN.device)).double().cpu().numpy()
