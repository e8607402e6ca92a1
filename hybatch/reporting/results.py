"""What reports need of a results.json, read and checked whole: a wrong value is named by its file and key.

G languages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from hybatch.errors import UserError
from hybatch.evaluation.results import read_any_results
from hybatch.evaluation.settings.bias_metrics import BILINGUAL, MULTILINGUAL, POOLS, BiasMetric
from hybatch.evaluation.table import cross_lingual_means
from hybatch.models import Role
from hybatch.reporting.checked_json import Checked, Wrong, by_name, count, names, number, number_or_none, text
from hybatch.reporting.removal import checked_removal, removal_words
from hybatch.reporting.vectors import Vectors, checked_vectors

Figures = Mapping[str, float | None]
"""Metric -> value; None where no query has a positive. Counts, such as "num_queries", stand among them."""
SETTINGS = ("monolingual", "cross_lingual", "multilingual")
MEND = "evaluate again"
LANGUAGES = "languages"


@dataclass(frozen=True, kw_only=True)
class TopLanguages:
    """Languages of the k best candidates of the pool, right or wrong; see `top_language_shares`."""

    share: Mapping[str, Figures | None]
    mean_share: Figures
    distance: float
    own: float | None
    own_uniform: float | None


@dataclass(frozen=True, kw_only=True)
class PoolLanguages:
    """`pool_share`: language -> its share of the pool. `top`: k, as a text -> the languages of the k best."""

    pool_share: Mapping[str, float]
    top: Mapping[str, TopLanguages]


@dataclass(frozen=True, kw_only=True)
class LanguageBias:
    """The figures of every bias metric, see `hybatch.evaluation.settings.bias_figures.bias_figures`.

    pivot: the language that bilingual pools have beside the query's; None where there are none.
    multilingual, bilingual: query language -> metric -> figure in that pool. summary: pool -> means over languages.
    first: query language -> language -> share of the queries whose best candidate it is; None without queries.
    """

    pivot: str | None
    multilingual: Mapping[str, Figures]
    bilingual: Mapping[str, Figures]
    summary: Mapping[str, Figures]
    first: Mapping[str, Figures | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Results:
    """What every results.json has. `ranked_by`: backend, search or similarity, whichever tells most.

    data_digest: of the data, which tells results of other data apart; None in results from before it was written.
    debias: how language bias was taken out of the model after training; None where it was not.
    precision: of the encoder, where it was not float32; None: float32, or ready embeddings.
    prefixes: role -> what was put before its texts in the place of the model's own prefix.
    vectors: what was ranked, where --vectors or --dimensions chose it.
    """

    task: str
    model: str
    languages: tuple[str, ...]
    summary: Mapping[str, Figures]
    num_queries: Mapping[str, int] | None = None
    num_candidates: Mapping[str, int] | None = None
    ranked_by: str = "None"
    versions: Mapping[str, str] = field(default_factory=dict)
    data_digest: str | None = None
    debias: Mapping[str, Any] | None = None
    precision: str | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    vectors: Vectors | None = None

    @property
    def described_model(self) -> str:
        """The model, what was done to it after training, how it was asked and in which precision, and its vectors."""
        words = [self.model] if self.debias is None else [self.model, removal_words(self.debias)]
        words += self.asked
        return ", ".join(words if self.vectors is None else [*words, f"vectors {self.vectors.words}"])

    @property
    def asked(self) -> list[str]:
        """What was other than the model has it: prefixes, and the precision that it was measured in."""
        words = [f"{role} prefix {prefix!r}" for role, prefix in sorted(self.prefixes.items())]
        return words if self.precision is None else [*words, f"encoded in {self.precision}"]

    @property
    def trained_model(self) -> str:
        """The model that was trained, of which this is perhaps a debiased one."""
        return self.model if self.debias is None else self.debias["model"]

    def marked(self, name: str) -> str:
        """A short name of the model, with the method of the removal if there was one, and the vectors if chosen."""
        return ", ".join([self.model_marked(name), *([self.vectors.words] if self.vectors else [])])

    def model_marked(self, name: str) -> str:
        """A short name of the model, with the method of the removal if there was one."""
        return name if self.debias is None else f"{name}, {self.debias['method']}"


@dataclass(frozen=True, kw_only=True, eq=False)
class PairResults(_Results):
    """Of a task in every language setting.

    pairs: query language -> candidate language -> figures. multilingual: query language -> figures in the pool of all.
    summary: setting -> means over its languages or pairs. ties: figures of the multilingual setting's ties.
    """

    pairs: Mapping[str, Mapping[str, Figures]]
    multilingual: Mapping[str, Figures]
    top_languages: PoolLanguages | None = None
    language_bias: LanguageBias | None = None
    ties: Figures = field(default_factory=dict)

    def bias_mean(self, metric: BiasMetric) -> float | None:
        """A bias metric over the languages; None where no query has it, or the results are older than it."""
        return None if self.language_bias is None else self.language_bias.summary[metric.pool].get(metric.name)

    def by_language(self, setting: str, metric: str) -> dict[str, float | None]:
        """Query language -> figure; cross-lingual: the mean over the other candidate languages that have it."""
        if setting == "monolingual":
            return {language: row[language].get(metric) for language, row in self.pairs.items()}
        if setting == "cross_lingual":
            return cross_lingual_means({"pairs": self.pairs}, metric)
        return {language: row.get(metric) for language, row in self.multilingual.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageResults(_Results):
    """Of a task with one row of figures a language.

    metrics: their names, the task's main one first. figures: language -> figures.
    summary: "mean" and subsets -> means over their languages. subsets: name -> its languages.
    """

    metrics: tuple[str, ...]
    figures: Mapping[str, Figures]
    subsets: Mapping[str, Sequence[str]] = field(default_factory=dict)


Results = PairResults | LanguageResults


def read_results(path: Path) -> Results:
    """Read one results.json.

    Raises:
        UserError: it is missing, no result of `hybatch evaluate`, or a value in it is of the wrong kind.
    """
    try:
        return results_from(read_any_results(path), str(path))
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply for the results of hybatch evaluate; {MEND}") from error


def results_from(value: Mapping[str, Any], source: str) -> Results:
    """Check the object of a results.json.

    Args:
        source: what messages call it.

    Raises:
        UserError: a value is missing or of the wrong kind; the message says which.
    """
    at = Checked(value, source, MEND)
    languages = at.get(LANGUAGES, names)
    if not languages:
        at.refuse(LANGUAGES, "at least one language")
    common: dict[str, Any] = {
        "task": at.get("task", text),
        "model": at.get("model", text),
        "languages": languages,
        "num_queries": at.get("num_queries", by_name(count), default=None),
        "num_candidates": at.get("num_candidates", by_name(count), default=None),
        "ranked_by": next((at.get(key, text) for key in ("backend", "search", "similarity") if value.get(key)), "None"),
        "versions": at.get("versions", by_name(text), default=None) or {},
        "data_digest": at.get("data_digest", text, default=None),
        "debias": checked_removal(at),
        "precision": at.get("precision", text, default=None),
        "prefixes": at.get("prefixes", _prefixes, default=None) or {},
        "vectors": checked_vectors(at),
    }
    if not {"pairs", "figures"} & value.keys():
        raise UserError(f"{source}: 'pairs' or 'figures' is missing; {MEND}")
    if "pairs" in value:
        return _pair_results(at, languages, common)
    return _language_results(at, languages, common)


def _prefixes(value: Any) -> dict[str, str]:
    """Any texts, empty ones and those with line ends too, of roles."""
    roles = get_args(Role)
    if not isinstance(value, dict) or not all(role in roles and isinstance(one, str) for role, one in value.items()):
        raise Wrong(f"an object of texts of {' and '.join(roles)}")
    return value


def _pair_results(at: Checked, languages: tuple[str, ...], common: Mapping[str, Any]) -> PairResults:
    pairs = {
        x: row.figures_of(languages, ("map",), LANGUAGES) for x, row in at.child("pairs").children(languages, LANGUAGES)
    }
    summary = at.child("summary")
    # num_settings is 0 in results over one language, which have no pairs of different ones.
    means = {s: summary.child(s).get_figures(("map", "num_settings")) for s in SETTINGS}
    if "rank_distance" not in means["multilingual"]:
        summary.child("multilingual").refuse("rank_distance", "a number or null")
    top, bias = (at.child(key) if at.value.get(key) is not None else None for key in ("top_languages", "language_bias"))
    return PairResults(
        **common,
        summary=means,
        pairs=pairs,
        multilingual=at.child("multilingual").figures_of(languages, ("map", "rank_distance"), LANGUAGES),
        top_languages=None if top is None else _pool_languages(top, languages),
        language_bias=None if bias is None else _language_bias(bias, languages),
        ties=at.child("ties").get_figures(()) if at.value.get("ties") is not None else {},
    )


def _language_bias(at: Checked, languages: tuple[str, ...]) -> LanguageBias:
    pivot = at.get("pivot", text, default=None)
    if pivot not in (None, *languages):
        at.refuse("pivot", f"one of {' '.join(languages)}, or null")
    with_pair = tuple(x for x in languages if x != pivot) if pivot else ()
    first = at.child("first")
    return LanguageBias(
        pivot=pivot,
        multilingual=at.child(MULTILINGUAL).figures_of(languages, (), LANGUAGES),
        bilingual=at.child(BILINGUAL).figures_of(with_pair, (), LANGUAGES),
        summary=at.child("summary").figures_of(POOLS, (), "pools"),
        first={x: first.get(x, _share, default=None) for x in languages},
    )


def _pool_languages(at: Checked, languages: tuple[str, ...]) -> PoolLanguages:
    top = at.child("top")
    return PoolLanguages(
        pool_share={x: at.child("pool_share").get(x, number) for x in languages},
        top={
            k: TopLanguages(
                share={x: one.child("share").get(x, _share, default=None) for x in languages},
                mean_share=one.child("mean_share").get_figures(languages),
                distance=one.get("distance", number),
                own=one.get("own", number_or_none),
                own_uniform=one.get("own_uniform", number_or_none),
            )
            for k, one in top.children(top.names())
        },
    )


def _share(value: Any) -> Figures | None:
    return None if value is None else by_name(number)(value)


def _language_results(at: Checked, languages: tuple[str, ...], common: Mapping[str, Any]) -> LanguageResults:
    metrics = at.get("metrics", names)
    if not metrics:
        at.refuse("metrics", "at least one metric")
    summary = at.child("summary")
    summary.child("mean")
    return LanguageResults(
        **common,
        metrics=metrics,
        figures=at.child("figures").figures_of(languages, (), LANGUAGES),
        summary={name: one.get_figures(("num_languages",)) for name, one in summary.children(summary.names())},
        subsets=at.get("subsets", by_name(names), default={}),
    )
