"""The table of bias metrics: what each is called, means and comes from.

A metric is one entry of `BIAS_METRICS`; results.json, per_query.npz, the tables, figures, comparisons and the table in
docs/evaluation.md follow from it. All figures come from exact ranks, with ties in the order of the pool; that of a
language is the mean over its queries, those that a metric leaves out (NaN) not counted. They are computed
in `bias_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hybatch.evaluation.settings.best_languages import TOP_CUTOFFS
from hybatch.evaluation.settings.bias_arithmetic import (
    average_precision,
    complete,
    english_inclination,
    first,
    language_ndcg,
    last_place,
    peer_answers,
    peer_others,
)
from hybatch.evaluation.settings.language_bias import own_language_first
from hybatch.evaluation.settings.pool_ranks import PoolRanks

MULTILINGUAL, BILINGUAL = "multilingual", "bilingual"
POOLS = (MULTILINGUAL, BILINGUAL)
"""The candidates of all languages; those of the query's language and English alone."""
ANSWERS, FIRST, PEER, PAIR = "answers", "first candidate", "equal ranks", "bilingual pool"
GROUPS = {ANSWERS: MULTILINGUAL, FIRST: MULTILINGUAL, PEER: MULTILINGUAL, PAIR: BILINGUAL}
"""Metrics that share a table -> their pool."""
_ENGLISH = ("en", "eng")


def english_of(languages: Sequence[str]) -> str | None:
    """The language that is English (en, eng, eng_Latn, en-GB), the first of several; None where there is none."""
    return next((x for x in languages if x.replace("_", "-").split("-")[0].lower() in _ENGLISH), None)


@dataclass(frozen=True)
class BiasMetric:
    """One metric.

    name: in files and for --metric. label: in tables. group: which table, and which pool; one of `GROUPS`.
    definition: of a query's figure; a "share of queries" is 1 or 0 for a query.
    higher_is_better: None where neither end is.
    compute: `PoolRanks` -> float64 [Q], NaN for queries that the metric leaves out.
    is_headline: whether it has a panel in the figure of bias against mAP.
    """

    name: str
    label: str
    group: str
    definition: str
    source: str
    compute: Callable[[PoolRanks], np.ndarray]
    higher_is_better: bool | None = True
    digits: int = 4
    is_headline: bool = False

    @property
    def pool(self) -> str:
        """One of `POOLS`."""
        return GROUPS[self.group]


_SEMANTIC_PROXIMITY = "arXiv 2604.05684"
_MLAIRE = "arXiv 2605.07249"
_PEER = "PEER of arXiv 2405.00978, of one level of relevance"

_OF_ANSWERS = (
    BiasMetric(
        "rank_distance",
        "rank distance",
        ANSWERS,
        "worst minus best rank of the query's answers",
        "language bias of arXiv 2408.10536",
        lambda pool: pool.last_rank_Q - pool.first_rank_Q,
        higher_is_better=False,
        digits=1,
        is_headline=True,
    ),
    BiasMetric(
        "last_rank",
        "last rank",
        ANSWERS,
        "worst rank of the query's answers",
        f"Max@R of {_SEMANTIC_PROXIMITY}, before it is normalised",
        lambda pool: pool.last_rank_Q,
        higher_is_better=False,
        digits=1,
    ),
    BiasMetric(
        "last_place",
        "last place",
        ANSWERS,
        "(worst rank of the query's m answers - m) / (candidates of the pool - m): 0 where they take the first m "
        "places, 1 where one is the last of all",
        f"Max@R of {_SEMANTIC_PROXIMITY}, normalised in a way of our own",
        last_place,
        higher_is_better=False,
    ),
    *(
        BiasMetric(
            f"complete@{k}",
            f"complete@{k}",
            ANSWERS,
            f"share of queries whose answers all rank within the first {k}; those with more answers are left out",
            f"Complete@K of {_SEMANTIC_PROXIMITY}",
            complete(k),
        )
        for k in TOP_CUTOFFS
    ),
    BiasMetric(
        "own_language_first",
        "own first (LPR)",
        ANSWERS,
        "share of queries whose answer in their own language ranks before those in other languages; those without the "
        "one or the others are left out",
        f"language preference rate (LPR) of {_MLAIRE}",
        lambda pool: own_language_first(pool.best_ranks_QG, pool.own),
        higher_is_better=None,
        is_headline=True,
    ),
    BiasMetric(
        "lang_ndcg@10",
        "lang-nDCG@10",
        ANSWERS,
        "sum of gain / log2(1 + rank) over the answers within the first 10, over the largest such sum; gain 2 of an "
        "answer in the query's language, 1 of another",
        f"Lang-nDCG of {_MLAIRE}, with gains of our own",
        language_ndcg(10),
    ),
)
_OF_FIRST = (
    *(
        BiasMetric(
            f"first_{'right' if right else 'wrong'}_{'own' if own else 'other'}",
            f"{'right' if right else 'wrong'}, {'own' if own else 'other'} language",
            FIRST,
            f"share of queries whose first candidate is {'an' if right else 'no'} answer, and in "
            f"{'the language of the query' if own else 'another language'}",
            f"four-way split of {_MLAIRE}",
            first(right, own),
            higher_is_better=None if right and not own else right,
        )
        for right in (True, False)
        for own in (True, False)
    ),
)
_OF_PEER = (
    *(
        BiasMetric(
            f"peer_answers@{k}",
            f"PEER of answers@{k}",
            PEER,
            f"p value of a Kruskal-Wallis test that the answers of all languages have equal expected ranks, those "
            f"below the first {k} tied; queries with answers in one language only, or with no two in any, are left out",
            _PEER,
            peer_answers(k),
        )
        for k in TOP_CUTOFFS
    ),
    *(
        BiasMetric(
            f"peer_others@{k}",
            f"PEER of others@{k}",
            PEER,
            f"p value of a Kruskal-Wallis test that the candidates of all languages that are no answer have equal "
            f"expected ranks, those below the first {k} tied",
            _PEER,
            peer_others(k),
            is_headline=k == min(TOP_CUTOFFS),
        )
        for k in TOP_CUTOFFS
    ),
)
_OF_PAIR = (
    BiasMetric(
        "bilingual_map",
        "bilingual mAP",
        PAIR,
        "average precision, as in the other settings",
        f"pool of {_SEMANTIC_PROXIMITY}",
        average_precision,
    ),
    BiasMetric(
        "english_inclination",
        "English inclination",
        PAIR,
        "share of queries whose first candidate is English and no answer",
        f"English inclination of {_SEMANTIC_PROXIMITY}",
        english_inclination,
        higher_is_better=False,
        is_headline=True,
    ),
    BiasMetric(
        "bilingual_last_rank",
        "bilingual last rank",
        PAIR,
        "worst rank of the query's answers",
        f"Max@R of {_SEMANTIC_PROXIMITY}, before it is normalised",
        lambda pool: pool.last_rank_Q,
        higher_is_better=False,
        digits=1,
    ),
    BiasMetric(
        "bilingual_complete@10",
        "bilingual complete@10",
        PAIR,
        "share of queries whose answers all rank within the first 10; those with more answers are left out",
        f"Complete@K of {_SEMANTIC_PROXIMITY}",
        complete(10),
    ),
    BiasMetric(
        "bilingual_own_language_first",
        "bilingual own first",
        PAIR,
        "share of queries whose answer in their own language ranks before the English one; those without either are "
        "left out",
        f"language preference rate (LPR) of {_MLAIRE}, in the bilingual pool",
        lambda pool: own_language_first(pool.best_ranks_QG, pool.own),
        higher_is_better=None,
    ),
)
BIAS_METRICS: dict[str, BiasMetric] = {
    metric.name: metric for metric in (*_OF_ANSWERS, *_OF_FIRST, *_OF_PEER, *_OF_PAIR)
}


def metrics_of(pool: str) -> list[BiasMetric]:
    """The metrics of one of `POOLS`, in the order of the table."""
    return [metric for metric in BIAS_METRICS.values() if metric.pool == pool]
