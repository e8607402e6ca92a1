"""The figures of every single query, which comparisons resample: per_query.npz beside results.json.

    languages                 [G] str
    ids/<query language>      [Q] str; parallel questions share theirs
    <metric>/<query language> [Q, G + 1] float64: the pair with each candidate language, then the pool of all of them
    rank_distance/<query language>  [Q] float64: worst minus best rank of the query's positives in the pool
    pool_rank/<query language>      [Q, G] float64: best rank in the pool of the query's positives of each language
    <bias metric>/<query language>  [Q] float64, for every entry of `BIAS_METRICS` (see `settings.bias_metrics`); those
                                    of the bilingual pool are NaN for English, and not there without it

Tasks with one row of figures a language, rather than a table of language pairs, have only

    languages                 [G] str
    ids/<query language>      [Q] str; no two languages share one
    <metric>/<query language> [Q] float64

NaN stands where the query has no positive, and where a bias metric leaves it out. Q queries of one language, G
languages, P positives.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.settings.metrics import CUTOFFS, QueryFigures

if TYPE_CHECKING:
    from hybatch.evaluation.settings.task import RetrievalTask

PER_QUERY = "per_query.npz"
QueryTables = dict[str, np.ndarray]
DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What numpy raises over an .npz file with wrong bytes."""


def query_ids(task: RetrievalTask) -> QueryTables:
    """The languages, and the id of every query; queries of a task without ids are all different questions."""
    return {
        "languages": np.array(task.languages, dtype=np.str_),
        **{
            f"ids/{language}": np.array(
                task.query_ids.get(language) or [f"{language}/{row}" for row in range(len(texts))], dtype=np.str_
            )
            for language, texts in task.queries.items()
        },
    }


def query_tables(
    language: str, settings: Sequence[QueryFigures], pool: QueryFigures, best_ranks_QG: np.ndarray
) -> QueryTables:
    """The tables of one query language: `settings` holds a figure set per candidate language, `pool` that of all."""
    everywhere = (*settings, pool)
    columns = {
        "map": [_spread(one.average_precision, one) for one in everywhere],
        **{f"recall@{k}": [_spread(one.recall[k], one) for one in everywhere] for k in CUTOFFS},
        **{f"hit@{k}": [_spread(one.hit[k], one) for one in everywhere] for k in CUTOFFS},
    }
    return {
        **{f"{metric}/{language}": np.stack(listed, axis=1) for metric, listed in columns.items()},
        f"rank_distance/{language}": _spread(pool.rank_distance, pool),
        f"pool_rank/{language}": best_ranks_QG,
    }


def language_query_tables(
    ids: Mapping[str, Sequence[str]], figures: Mapping[str, Mapping[str, np.ndarray]]
) -> QueryTables:
    """The tables of a task with one row of figures a language.

    Args:
        ids: language -> ids of its queries.
        figures: language -> metric -> float64 [Q], NaN where the query is left out.
    """
    tables: QueryTables = {"languages": np.array(sorted(ids), dtype=np.str_)}
    for language, names in ids.items():
        tables[f"ids/{language}"] = np.array([f"{language}/{name}" for name in names], dtype=np.str_)
        tables |= {f"{metric}/{language}": values_Q for metric, values_Q in figures[language].items()}
    return tables


def best_ranks(
    ranks_P: np.ndarray, query_P: np.ndarray, group_P: np.ndarray, num_queries: int, num_groups: int
) -> np.ndarray:
    """float64 [Q, G]: the smallest rank among a query's positives of each group, NaN where it has none."""
    best_QG = np.full((num_queries, num_groups), np.inf)
    np.minimum.at(best_QG, (query_P, group_P), ranks_P.astype(np.float64))
    best_QG[np.isinf(best_QG)] = np.nan
    return best_QG


def _spread(values: np.ndarray, figures: QueryFigures) -> np.ndarray:
    spread_Q = np.full(len(figures.counted), np.nan)
    spread_Q[figures.counted] = values
    return spread_Q


def write_query_tables(path: Path, tables: QueryTables) -> None:
    """Write an .npz file whose bytes depend on the tables alone; it appears whole or not at all.

    Raises:
        OSError: it cannot be written or the disk is full.
    """
    # numpy.savez leaves the dates of the members to zipfile; a ZipInfo made by hand always carries 1980-01-01.
    with atomic_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name in sorted(tables):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, tables[name], allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def read_query_tables(path: Path) -> QueryTables:
    """Read what `write_query_tables` wrote.

    Raises:
        UserError: it is missing or no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; evaluate again with --output {path.parent}, which writes it")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise UserError(f"{path}: not a per_query.npz of hybatch evaluate ({error}); evaluate again") from error
