"""Cells: what a batch may be drawn from, each a kind, a data set and, for batches of one language, that language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.sampling.config import BatchKind, SamplingConfig
from hybatch.sampling.keyed import derive_key
from hybatch.sampling.usable import Selection, UsableExamples, language_mask, open_usable
from hybatch.sampling.windows import Windows, cut_epoch


@dataclass(frozen=True, eq=False)
class Cell:
    """Examples that batches of one kind take from one data set.

    Attributes:
        dataset: index into the corpora.
        language: index into the data set's languages for x-x-mono and en-en, else None.
        language_mask: bits of the languages that texts may be drawn from.
        usable: the examples.
        windows: how an epoch is cut into batches.
        key: of the cell's permutations.
    """

    kind: BatchKind
    dataset: int
    language: int | None
    language_mask: int
    usable: UsableExamples
    windows: Windows
    key: int


@dataclass(frozen=True)
class ExcludedCell:
    """A cell that no batch can be made from, and why.

    `dataset` is the corpus's name, `language` a code or None (all languages of the cell), `num_groups` the distinct
    passage groups of its usable examples.
    """

    dataset: str
    kind: BatchKind
    language: str | None
    num_groups: int
    reason: str

    def __str__(self) -> str:
        name = self.kind if self.language is None else f"{self.kind} {self.language}"
        return f"{self.dataset}, {name}: {self.reason}"


class NoCellError(UserError):
    """No data set can fill a batch of a kind that is asked for.

    Attributes:
        excluded: the cells of every kind that were too small, and why.
    """

    def __init__(self, message: str, excluded: Sequence[ExcludedCell]) -> None:
        super().__init__(message)
        self.excluded = tuple(excluded)


@dataclass(frozen=True)
class CellTable:
    """All cells of a run.

    `num_ids[kind, dataset]`: ids of the data set that batches of the kind can use, in cells not excluded.
    """

    cells: list[Cell] = field(default_factory=list)
    excluded: list[ExcludedCell] = field(default_factory=list)
    num_ids: dict[tuple[BatchKind, int], int] = field(default_factory=dict)


def find_cells(
    corpora: Sequence[ParallelCorpus],
    config: SamplingConfig,
    *,
    kinds: Sequence[BatchKind],
    languages: Sequence[str],
    seed: int,
    progress: bool,
) -> CellTable:
    """Find the cells of every kind and data set, and those too small for a batch.

    Raises:
        NoCellError: a kind has no cell; the message lists every excluded cell and how to mend it.
    """
    table = CellTable()
    for dataset, corpus in enumerate(corpora):
        candidates = _candidates(corpus, kinds, languages, table.excluded)
        usable = open_usable(corpus, [candidate.selection for candidate in candidates], progress=progress)
        first = len(table.cells)
        for candidate in candidates:
            _admit(table, candidate, usable[candidate.selection], corpus, dataset, config.batch_size, seed)
        _count_ids(table, table.cells[first:], corpus, progress=progress)
    for kind in kinds:
        if not any(cell.kind == kind for cell in table.cells):
            raise NoCellError(_nothing_left(kind, table.excluded, config), table.excluded)
    return table


@dataclass(frozen=True)
class _Candidate:
    kind: BatchKind
    language: str | None
    selection: Selection


def _candidates(
    corpus: ParallelCorpus, kinds: Sequence[BatchKind], languages: Sequence[str], excluded: list[ExcludedCell]
) -> list[_Candidate]:
    """The cells that a data set could have by its languages alone; the others go to `excluded`."""
    trained = tuple(language for language in corpus.languages if language in languages)
    candidates: list[_Candidate] = []
    for kind in kinds:
        if not trained:
            excluded.append(ExcludedCell(corpus.name, kind, None, 0, "it has none of the languages trained on"))
        elif kind == "x-x-mono":
            candidates += [_Candidate(kind, code, Selection("same", (code,))) for code in trained]
        elif kind == "en-en" and "en" not in trained:
            excluded.append(ExcludedCell(corpus.name, kind, "en", 0, "English is not among its languages trained on"))
        elif kind == "en-en":
            candidates.append(_Candidate(kind, "en", Selection("same", ("en",))))
        elif kind == "x-x":
            candidates.append(_Candidate(kind, None, Selection("same", trained)))
        elif len(trained) < 2:
            reason = f"{trained[0]} is the only one of its languages trained on, two are needed"
            excluded.append(ExcludedCell(corpus.name, kind, None, 0, reason))
        else:
            candidates.append(_Candidate(kind, None, Selection("different", trained)))
    return candidates


def _admit(
    table: CellTable,
    candidate: _Candidate,
    usable: UsableExamples,
    corpus: ParallelCorpus,
    dataset: int,
    batch_size: int,
    seed: int,
) -> None:
    if usable.num_groups < batch_size:
        reason = _too_small(candidate, usable, batch_size)
        table.excluded.append(ExcludedCell(corpus.name, candidate.kind, candidate.language, usable.num_groups, reason))
        return
    language = None if candidate.language is None else corpus.languages.index(candidate.language)
    table.cells.append(
        Cell(
            kind=candidate.kind,
            dataset=dataset,
            language=language,
            language_mask=language_mask(corpus, candidate.selection.languages),
            usable=usable,
            windows=cut_epoch(len(usable), batch_size, usable.group_sizes, usable.group_counts),
            key=derive_key("cell", seed, corpus.fingerprint, dataset, candidate.kind, candidate.language or ""),
        )
    )


def _too_small(candidate: _Candidate, usable: UsableExamples, batch_size: int) -> str:
    if len(usable) == 0 and candidate.selection.rule == "different":
        return "no example has a question and a passage in two different languages trained on"
    if len(usable) == 0:
        return f"no example has both question and passage in {candidate.language or 'one of the languages trained on'}"
    if usable.num_groups == len(usable):
        return f"{len(usable)} usable examples are fewer than a batch of {batch_size}"
    return (
        f"{len(usable)} usable examples have only {usable.num_groups} distinct passages, "
        f"fewer than a batch of {batch_size}"
    )


def _count_ids(table: CellTable, cells: list[Cell], corpus: ParallelCorpus, *, progress: bool) -> None:
    """Count each usable id of a kind once, in however many languages' cells it stands."""
    for cell in cells:
        largest = max(table.num_ids.get((cell.kind, cell.dataset), 0), len(cell.usable))
        table.num_ids[cell.kind, cell.dataset] = largest
    mono = [cell for cell in cells if cell.kind == "x-x-mono"]
    if len(mono) < 2 or table.num_ids["x-x-mono", mono[0].dataset] == corpus.num_examples:
        return
    codes = tuple(corpus.languages[cell.language] for cell in mono if cell.language is not None)
    selection = Selection("same", codes)
    usable = open_usable(corpus, [selection], progress=progress)[selection]
    table.num_ids["x-x-mono", mono[0].dataset] = len(usable)


def _nothing_left(kind: BatchKind, excluded: list[ExcludedCell], config: SamplingConfig) -> str:
    lines = "\n".join(f"  {cell}" for cell in excluded)
    return (
        f"sampling.kind is {config.kind}, but no data set can fill an {kind} batch of "
        f"sampling.batch_size {config.batch_size}:\n{lines}\n"
        "Lower sampling.batch_size, add data or languages, or choose another sampling.kind."
    )
