"""The figures of each parallel question, from those of each query: what paired tests between samplers resample.

N parallel questions, V single figures, G languages, Q queries of one language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybatch.evaluation.settings.per_query import QueryTables


def question_tables(per_query: QueryTables) -> QueryTables:
    """Mean figures of every question that is asked in one or more languages.

    Args:
        per_query: the tables of per_query.npz.

    Returns:
        "languages" [G] str; "ids" [N] str, sorted; and float32 [N]: "monolingual", "cross_lingual", "multilingual", the
        mean over the question's languages (cross_lingual: ordered pairs of them) that have a positive of average
        precision in that setting, and "rank_distance" of the worst minus the best rank of the positives in the pool of
        all languages. NaN where there is none.
    """
    languages = [str(language) for language in per_query["languages"]]
    ids_N = np.unique(np.concatenate([per_query[f"ids/{language}"] for language in languages]))
    rows = {language: np.searchsorted(ids_N, per_query[f"ids/{language}"]) for language in languages}
    columns: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        "monolingual": [],
        "cross_lingual": [],
        "multilingual": [],
        "rank_distance": [],
    }
    for place, language in enumerate(languages):
        map_QG1 = per_query[f"map/{language}"]
        columns["multilingual"].append((rows[language], map_QG1[:, -1]))
        columns["rank_distance"].append((rows[language], per_query[f"rank_distance/{language}"]))
        for other in range(len(languages)):
            setting = "monolingual" if other == place else "cross_lingual"
            columns[setting].append((rows[language], map_QG1[:, other]))
    means = {name: _mean_by_row(parts, len(ids_N)) for name, parts in columns.items()}
    return {"languages": per_query["languages"], "ids": ids_N, **means}


def _mean_by_row(parts: Sequence[tuple[np.ndarray, np.ndarray]], num_rows: int) -> np.ndarray:
    rows_V, values_V = (np.concatenate(column) for column in zip(*parts, strict=True))
    counted = ~np.isnan(values_V)
    sums_N = np.bincount(rows_V[counted], weights=values_V[counted], minlength=num_rows)
    counts_N = np.bincount(rows_V[counted], minlength=num_rows)
    means_N = np.full(num_rows, np.nan)
    np.divide(sums_N, counts_N, out=means_N, where=counts_N > 0)
    return means_N.astype(np.float32)
