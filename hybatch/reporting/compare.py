"""`hybatch compare`: whether one model is better than another, setting by setting, and how sure that is."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from hybatch.errors import UserError
from hybatch.evaluation.settings.language_bias import language_bias
from hybatch.options import number_of
from hybatch.paths import check_writable, path_of
from hybatch.reporting.comparison.files import Comparison, bias_lines, terminal_tables, write_comparison
from hybatch.reporting.comparison.query_results import QueryResults, chosen_metric, read_query_results
from hybatch.reporting.comparison.rows import CORRECTIONS, ComparisonOptions, compare_bias, compare_results
from hybatch.reporting.comparison.significance import INTERVALS
from hybatch.reporting.comparison.training_languages import training_languages
from hybatch.reporting.results import PairResults
from hybatch.terminal import table_console


def main(argv: Sequence[str]) -> int:
    """Run `hybatch compare`: write every table to --output and print the summary; without --output print them all.

    Raises:
        UserError: an option is out of range, or the results are missing or not of the same task and data.
    """
    arguments = _parser().parse_args(argv)
    _check(arguments)
    results = read_query_results(arguments.results, arguments.task)
    options = ComparisonOptions(
        metric=chosen_metric(results, arguments.metric),
        resamples=arguments.resamples,
        seed=arguments.seed,
        confidence=arguments.confidence,
        correction=arguments.correction,
        interval=arguments.interval,
    )
    trained = {
        one.label: arguments.trained_languages or training_languages(one.results.trained_model) for one in results
    }
    comparison = Comparison(
        results=results,
        options=options,
        rows=compare_results(results, options, trained),
        trained=trained,
        bias={one.label: _bias(one) for one in results if one.has_pairs},
        bias_rows=compare_bias(results, options),
    )
    if arguments.output:
        write_comparison(comparison, arguments.output)
    _print(comparison, ("summary", "bias") if arguments.output else ("summary", "bias", "breakdown", "setting"))
    if arguments.output:
        print(f"wrote {arguments.output}: comparison.md, comparison.csv, comparison.json, with every setting")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybatch compare",
        description="Compare results of hybatch evaluate query by query, each with the first.",
    )
    parser.add_argument("results", nargs="+", metavar="[LABEL=]DIR", help="two or more --output of hybatch evaluate")
    parser.add_argument("--task", help="which task's results to take where a DIR holds several below it")
    parser.add_argument(
        "--metric", help="default: the task's main one, map (mAP) where every pair of languages is a setting"
    )
    parser.add_argument(
        "--output", type=path_of("--output"), metavar="DIR", help="write comparison.md, .csv and .json there"
    )
    parser.add_argument(
        "--resamples",
        # Fewer say nothing about the tails.
        type=number_of("--resamples", int, ge=100, le=100_000_000),
        default=10_000,
        metavar="N",
        help="of bootstrap and test, default 10000",
    )
    parser.add_argument(
        "--confidence",
        type=number_of("--confidence", float, gt=0, lt=1),
        default=0.95,
        metavar="P",
        help="of the intervals, default 0.95",
    )
    parser.add_argument(
        "--interval",
        choices=INTERVALS,
        default="percentile",
        help="bca: corrected for bias and skewness (default percentile)",
    )
    parser.add_argument(
        "--correction",
        choices=list(CORRECTIONS),
        default="holm",
        help="holm: no false finding at all; bh: few false ones among the findings (default holm)",
    )
    parser.add_argument(
        "--seed",
        type=number_of("--seed", int, ge=0, lt=1 << 63),
        default=0,
        metavar="N",
        help="of the resamples, default 0",
    )
    parser.add_argument(
        "--trained-languages",
        nargs="+",
        metavar="LANG",
        help="the others are shown apart as unseen; default: from the run folder that a model lies in",
    )
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if len(arguments.results) < 2:
        raise UserError("hybatch compare: needs two or more results, the first is what the others are compared with")
    if arguments.output:
        check_writable(arguments.output, "--output")


def _bias(one: QueryResults) -> dict[str, object]:
    """Of the answers, and of all candidates in the top k: None where older results do not have these."""
    answers = language_bias({x: one.tables[f"pool_rank/{x}"] for x in one.languages}, one.languages)
    top = one.results.top_languages if isinstance(one.results, PairResults) else None
    return {**answers, "top_languages": None if top is None else dataclasses.asdict(top)}


def _print(comparison: Comparison, sections: Sequence[str]) -> None:
    console = table_console()
    console.print(comparison.title, style="bold")
    for table in terminal_tables(comparison, sections):
        console.print(table)
    for line in (comparison.note, *comparison.findings(), *bias_lines(comparison)):
        console.print(line, highlight=False)
