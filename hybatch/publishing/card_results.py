"""Results in a model card: tables and heatmaps between two marks, and the hub's `model-index`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard

from hybatch.errors import UserError
from hybatch.models.card.base import facts_of
from hybatch.reporting.results import SETTINGS, LanguageResults, PairResults, Results
from hybatch.reporting.tables.by_language import language_tables
from hybatch.reporting.tables.markdown import markdown_text
from hybatch.reporting.tables.measured import Measured
from hybatch.reporting.tables.measures import MEASURES
from hybatch.reporting.tables.pairs import report_tables
from hybatch.reporting.tables.render import markdown

_BEGIN, _END = "<!-- results of hybatch card: what stands here is replaced -->", "<!-- end of the results -->"
_BLOCK = re.compile(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}\n?", re.S)
_TITLE = re.compile(r"^# (.+)$", re.M)
# Lists of words, of which the hub's library takes "no", Norwegian, for false.
_WORDS = frozenset({"language", "tags"})
_RETRIEVAL = ("information-retrieval", "Information Retrieval")


def with_results(
    card: str,
    measured: Sequence[Measured[Results]],
    own: Sequence[Measured[Results]],
    figures: Mapping[str, str],
    *,
    place: str,
) -> str:
    """The card with the results in it; those of an earlier call are replaced.

    Args:
        card: the README.md as it is.
        measured: what the tables show.
        own: those of the card's encoder, which go into the metadata, too.
        figures: task -> path of its heatmap, from the card.
        place: what messages call the card.

    Raises:
        UserError: its front matter cannot be read.
    """
    try:
        parsed = ModelCard(card)
        facts: Any = parsed.data
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{place}: its front matter cannot be read ({reason}); mend it") from error
    as_words = facts_of(card)
    for key in _WORDS & as_words.keys():
        facts[key] = as_words[key]
    new = [result for one in own for result in _eval_results(one.results)]
    tasks = {result.dataset_type for result in new}
    others = [result for result in facts.eval_results or [] if result.dataset_type not in tasks]
    title = _TITLE.search(parsed.text)
    facts.model_name = facts.model_name or (title[1] if title else "encoder")
    facts.eval_results = [*others, *new]
    block = f"{_BEGIN}\n\n{_section(measured, own, figures)}\n{_END}\n"
    found = _BLOCK.search(parsed.text)
    if found:
        text = parsed.text[: found.start()] + block + parsed.text[found.end() :]
    else:
        text = parsed.text.rstrip("\n") + "\n\n" + block
    return f"---\n{facts.to_yaml()}\n---\n{text}"


def _section(
    measured: Sequence[Measured[Results]], own: Sequence[Measured[Results]], figures: Mapping[str, str]
) -> str:
    pairs = [Measured(one.label, one.results) for one in measured if isinstance(one.results, PairResults)]
    rows = [Measured(one.label, one.results) for one in measured if isinstance(one.results, LanguageResults)]
    parts = ["## Results\n", f"Measured by `hybatch evaluate`, this encoder as {_labels(own)}.\n"]
    parts += [markdown(table) for table in (*report_tables(pairs, published=False), *language_tables(rows))]
    for task, path in figures.items():
        words = f"{task}: mAP of every pair of languages, and of the pool of all"
        parts.append(f"![{markdown_text(words)}]({path})\n")
    return "\n".join(parts)


def _labels(own: Sequence[Measured[Results]]) -> str:
    """Each by its label, with what was other than the encoder has it: whoever follows the card gets other figures."""
    words = ((one.label, ", ".join(one.results.asked)) for one in own)
    return ", ".join(dict.fromkeys(markdown_text(f"{label} ({asked})" if asked else label) for label, asked in words))


def _eval_results(results: Results) -> Iterator[EvalResult]:
    """The means of a task, as the hub's `model-index` has them: one data set configuration for each kind of setting."""
    if isinstance(results, PairResults):
        for setting in SETTINGS:
            measures = [one for one in MEASURES if one.setting == setting]
            yield from _of(results, setting, [one.metric for one in measures])
    else:
        yield from _of(results, "mean", results.metrics)


def _of(results: Results, setting: str, metrics: Sequence[str]) -> Iterator[EvalResult]:
    for metric in metrics:
        value = results.summary[setting].get(metric)
        if value is not None:
            yield EvalResult(
                task_type=_RETRIEVAL[0],
                task_name=_RETRIEVAL[1],
                dataset_type=results.task,
                dataset_name=results.task,
                dataset_config=setting.replace("_", "-"),
                metric_type=metric,
                metric_name=f"{metric.replace('_', ' ')}, {setting.replace('_', '-')}",
                metric_value=value,
            )
