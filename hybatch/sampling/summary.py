"""What a run will train on, in numbers and tables, without a model and without a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from hybatch.sampling.cells import Cell, ExcludedCell
from hybatch.sampling.kinds import KINDS
from hybatch.sampling.sampler import BatchSampler, GlobalBatch


@dataclass(frozen=True)
class CellSummary:
    """One cell over the whole run.

    Attributes:
        dataset, kind, language: its name; `language` is a code, None where a batch mixes languages.
        num_usable, num_unusable: examples of the data set that it can use, and the others.
        num_groups: distinct passage groups of the usable ones.
        collision_probability: the chance that two random usable examples are of one passage group.
        planned_steps: steps of the run that draw from it.
        expected_share: of the steps, on average over seeds.
        steps_per_epoch: batches in one shuffle of its examples.
        epochs: planned_steps / steps_per_epoch.
        left_over: examples of an epoch that are in none of its batches, as long as none spills.
    """

    dataset: str
    kind: str
    language: str | None
    num_usable: int
    num_unusable: int
    num_groups: int
    collision_probability: float
    planned_steps: int
    expected_share: float
    steps_per_epoch: int
    epochs: float
    left_over: int


@dataclass(frozen=True)
class SamplingSummary:
    """The plan of a run, and counts over the batches that were drawn to look at.

    Attributes:
        total_steps, batch_size: of the run.
        cells: every cell, in the order of the sampler.
        excluded: cells too small for a batch.
        drawn_steps, drawn_examples: what the following are counted over.
        drawn_kinds: kind -> batches.
        pair_counts: (query's language, passage's language) -> examples.
        expected_pair_counts: likewise, on average over the draws of the examples' languages.
        displaced: examples that gave way to another because their passage group was already in the batch.
        spilled: examples read beyond the window of their batch.
    """

    total_steps: int
    batch_size: int
    cells: list[CellSummary]
    excluded: list[ExcludedCell]
    drawn_steps: int
    drawn_examples: int
    drawn_kinds: dict[str, int]
    pair_counts: dict[tuple[str, str], int]
    expected_pair_counts: dict[tuple[str, str], float]
    displaced: int
    spilled: int

    @property
    def planned_kinds(self) -> dict[str, int]:
        """Kind -> steps of the whole run."""
        steps: Counter[str] = Counter()
        for cell in self.cells:
            steps[cell.kind] += cell.planned_steps
        return dict(steps)

    @property
    def pair_shares(self) -> dict[tuple[str, str], float]:
        """(question language, passage language) -> share, 0 to 1, of the drawn examples."""
        return {pair: count / self.drawn_examples for pair, count in self.pair_counts.items()}

    @property
    def expected_pair_shares(self) -> dict[tuple[str, str], float]:
        """The same of what was expected of the drawn examples."""
        return {pair: count / self.drawn_examples for pair, count in self.expected_pair_counts.items()}

    @property
    def question_shares(self) -> dict[str, float]:
        """Language -> share of the drawn examples whose query is in it."""
        return self._shares(0)

    @property
    def passage_shares(self) -> dict[str, float]:
        """Language -> share of the drawn examples whose passage is in it."""
        return self._shares(1)

    def _shares(self, side: int) -> dict[str, float]:
        counts: Counter[str] = Counter()
        for pair, count in self.pair_counts.items():
            counts[pair[side]] += count
        return {code: counts[code] / self.drawn_examples for code in sorted(counts)}


def summarise(sampler: BatchSampler, batches: Iterable[GlobalBatch]) -> SamplingSummary:
    """Count the sampler's plan, and the `batches` given, e.g. `map(sampler.batch, range(100))`."""
    pairs: Counter[tuple[str, str]] = Counter()
    expected: defaultdict[tuple[str, str], float] = defaultdict(float)
    kinds: Counter[str] = Counter()
    displaced = spilled = num_examples = 0
    for batch in batches:
        kinds[batch.kind] += 1
        displaced += batch.displaced
        spilled += batch.spilled
        num_examples += len(batch.examples)
        codes = sampler.corpora[batch.dataset].languages
        coded = batch.question_languages * len(codes) + batch.passage_languages
        for code, count in zip(*(part.tolist() for part in np.unique(coded, return_counts=True)), strict=True):
            question, passage = divmod(code, len(codes))
            pairs[codes[question], codes[passage]] += count
        expected_LL = sampler.expected_pairs(batch)
        for question, passage in np.argwhere(expected_LL).tolist():
            expected[codes[question], codes[passage]] += float(expected_LL[question, passage])
    planned = np.bincount(sampler.plan.cells, minlength=len(sampler.cells)).tolist()
    return SamplingSummary(
        total_steps=sampler.total_steps,
        batch_size=sampler.config.batch_size,
        cells=[
            _summarise_cell(sampler, cell, steps, share)
            for cell, steps, share in zip(sampler.cells, planned, sampler.plan.expected_shares, strict=True)
        ],
        excluded=list(sampler.excluded),
        drawn_steps=kinds.total(),
        drawn_examples=num_examples,
        drawn_kinds=dict(sorted(kinds.items())),
        pair_counts=dict(sorted(pairs.items())),
        expected_pair_counts=dict(sorted(expected.items())),
        displaced=displaced,
        spilled=spilled,
    )


def _summarise_cell(sampler: BatchSampler, cell: Cell, planned_steps: int, expected_share: float) -> CellSummary:
    corpus = sampler.corpora[cell.dataset]
    num_usable, steps_per_epoch = len(cell.usable), cell.windows.count
    return CellSummary(
        dataset=corpus.name,
        kind=cell.kind,
        language=None if cell.language is None else corpus.languages[cell.language],
        num_usable=num_usable,
        num_unusable=corpus.num_examples - num_usable,
        num_groups=cell.usable.num_groups,
        collision_probability=cell.usable.collision_probability,
        planned_steps=planned_steps,
        expected_share=expected_share,
        steps_per_epoch=steps_per_epoch,
        epochs=planned_steps / steps_per_epoch,
        left_over=num_usable - steps_per_epoch * sampler.config.batch_size,
    )


def left_out(sampler: BatchSampler) -> list[str]:
    """What the run cannot use, a line each: cells too small for a batch; examples without the languages of their kind.

    Of batches in one language only the excluded cells are named: that an example lacks a language is no loss there.
    """
    lines = [f"excluded: {cell}" for cell in sampler.excluded]
    for cell in sampler.cells:
        corpus = sampler.corpora[cell.dataset]
        unusable = corpus.num_examples - len(cell.usable)
        if unusable and not KINDS[cell.kind].one_language:
            lines.append(
                f"excluded: {corpus.name}, {cell.kind}: {unusable:,} of {corpus.num_examples:,} examples, which do not "
                f"have {KINDS[cell.kind].needs()}"
            )
    return lines


def summary_tables(summary: SamplingSummary) -> list[Table]:
    """The summary as tables for a terminal: cells, excluded cells (if any), languages, language pairs as drawn and as
    expected."""
    tables = [_cell_table(summary)]
    if summary.excluded:
        tables.append(_excluded_table(summary))
    if summary.drawn_examples:
        tables += [
            _language_table(summary),
            _pair_table(summary, summary.pair_shares, "Share"),
            _pair_table(summary, summary.expected_pair_shares, "Expected share"),
        ]
    return tables


def _cell_table(summary: SamplingSummary) -> Table:
    kinds = ", ".join(f"{kind} {steps}" for kind, steps in summary.planned_kinds.items())
    meanings = "; ".join(f"{kind}: {KINDS[kind].summary}" for kind in summary.planned_kinds)
    table = Table(title=f"{summary.total_steps} steps of {summary.batch_size} examples: {kinds}", caption=meanings)
    for name in ("kind", "data set", "language"):
        table.add_column(name)
    for name in ("steps", "share", "expected", "epochs", "usable", "unusable", "passages", "left over an epoch"):
        table.add_column(name, justify="right")
    for cell in summary.cells:
        table.add_row(
            cell.kind,
            cell.dataset,
            cell.language or "mixed",
            f"{cell.planned_steps:,}",
            f"{cell.planned_steps / summary.total_steps:.1%}",
            f"{cell.expected_share:.1%}",
            f"{cell.epochs:.2f}",
            f"{cell.num_usable:,}",
            f"{cell.num_unusable:,}",
            f"{cell.num_groups:,}",
            f"{cell.left_over:,}",
        )
    return table


def _excluded_table(summary: SamplingSummary) -> Table:
    table = Table(title="Excluded: no batch can be made from these")
    for name in ("kind", "data set", "language", "why"):
        table.add_column(name)
    for cell in summary.excluded:
        table.add_row(cell.kind, cell.dataset, cell.language or "mixed", cell.reason)
    return table


def _language_table(summary: SamplingSummary) -> Table:
    table = Table(
        title=f"Languages over {summary.drawn_steps} drawn batches "
        f"({summary.displaced} examples displaced, {summary.spilled} read beyond their window)"
    )
    table.add_column("language")
    table.add_column("questions" if _asks_questions(summary) else "queries", justify="right")
    table.add_column("passages", justify="right")
    questions, passages = summary.question_shares, summary.passage_shares
    for code in sorted(questions.keys() | passages.keys()):
        table.add_row(code, f"{questions.get(code, 0):.2%}", f"{passages.get(code, 0):.2%}")
    return table


def _asks_questions(summary: SamplingSummary) -> bool:
    """Whether all queries are questions."""
    return all(KINDS[kind].query_text == "question" for kind in summary.drawn_kinds)


def _pair_table(summary: SamplingSummary, shares: Mapping[tuple[str, str], float], title: str) -> Table:
    codes = sorted({code for pair in shares for code in pair})
    query = "question" if _asks_questions(summary) else "query"
    table = Table(title=f"{title} of each pair in %: {query}'s language down, passage's across")
    table.add_column("")
    for code in codes:
        table.add_column(code, justify="right")
    for question in codes:
        cells = [f"{shares[question, passage]:.2%}"[:-1] if (question, passage) in shares else "" for passage in codes]
        table.add_row(question, *cells)
    return table
