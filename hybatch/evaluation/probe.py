"""A linear probe on frozen embeddings: fitted in one language, tested in all.

N texts, H embedding width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from hybatch.evaluation.embeddings import TaskEmbeddings
from hybatch.evaluation.language_figures import figures_results
from hybatch.evaluation.settings.per_query import QueryTables, language_query_tables
from hybatch.evaluation.task import Part, ScoringOptions, TextsTask
from hybatch.models import Role

_ITERATIONS = 1000


@dataclass(frozen=True)
class ProbeTask(TextsTask):
    """Labelled texts: `candidates` to fit on, in one or more languages, `queries` to test on."""

    query_labels: dict[str, list[str]]
    candidate_labels: dict[str, list[str]]

    # Both are texts of one kind: an encoder with prefixes must give both the same.
    roles: ClassVar[Mapping[Part, Role]] = {"queries": "query", "candidates": "query"}

    def score_embeddings(
        self, embeddings: TaskEmbeddings, *, model: str, options: ScoringOptions, per_query: QueryTables
    ) -> dict[str, Any]:
        """As `TextsTask.score_embeddings`, see `score_probe`."""
        return score_probe(embeddings, self, model=model, per_query=per_query)


def score_probe(
    embeddings: TaskEmbeddings, task: ProbeTask, *, model: str, per_query: QueryTables | None = None
) -> dict[str, Any]:
    """Accuracy per language. A label that was not there to be learnt counts as an error.

    Args:
        per_query: filled, where given, with which text was named right, see `hybatch.evaluation.settings.per_query`.

    Returns:
        what results.json holds, see `figures_results`.
    """
    fitted_on = list(task.candidates)
    rows_NH = np.concatenate([embeddings.embeddings("candidates", language) for language in fitted_on])
    names = [label for language in fitted_on for label in task.candidate_labels[language]]
    classes = sorted(set(names))
    number = {label: index for index, label in enumerate(classes)}
    weight_CH, bias_C = fit(rows_NH, np.array([number[label] for label in names]), len(classes))
    figures, correct = {}, {}
    for language in task.languages:
        logits_NC = embeddings.embeddings("queries", language).astype(np.float64) @ weight_CH.T + bias_C
        labels_N = np.array([number.get(label, -1) for label in task.query_labels[language]])
        correct[language] = {"accuracy": (logits_NC.argmax(axis=1) == labels_N).astype(np.float64)}
        figures[language] = {"accuracy": float(correct[language]["accuracy"].mean()), "num_queries": len(labels_N)}
    if per_query is not None:
        ids = {language: [str(text) for text in range(len(task.queries[language]))] for language in task.languages}
        per_query.update(language_query_tables(ids, correct))
    return figures_results(embeddings, task, figures, model=model)


def fit(rows_NH: np.ndarray, labels_N: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: sum of cross-entropies + half the squared weights, the bias free.

    That is the objective of scikit-learn's LogisticRegression(C=1), which MTEB's classification tasks use. Minimised by
    L-BFGS in float64 from zero: the same result at equal threads, and for any number of processes.

    Returns:
        (weight [C, H], bias [C]), float64.
    """
    rows, labels = torch.from_numpy(rows_NH).double(), torch.from_numpy(labels_N).long()
    weight_CH = torch.zeros(num_classes, rows.shape[1], dtype=torch.float64, requires_grad=True)
    bias_C = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CH, bias_C],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        # The mean, not the sum: its gradient is of a size that the tolerances are made for.
        loss = F.cross_entropy(rows @ weight_CH.T + bias_C, labels) + weight_CH.square().sum() / (2 * len(rows))
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight_CH.detach().numpy(), bias_C.detach().numpy()
