"""Cells: what a batch may be drawn from, each a kind, a data set and, for batches of one language, that language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.sampling.config import SamplingConfig
from hybatch.sampling.keyed import derive_key
from hybatch.sampling.kinds import KINDS, BatchKind, Text, language_name
from hybatch.sampling.usable import Selection, UsableExamples, open_usable
from hybatch.sampling.weights import LanguageWeights
from hybatch.sampling.windows import Windows, cut_epoch


@dataclass(frozen=True, eq=False)
class Cell:
    """Examples that batches of one kind take from one data set.

    Attributes:
        dataset: index into the corpora.
        language: of kinds in one language, an index into the data set's languages; else None.
        question_mask, passage_mask: bits of the languages that queries, and that passages, may be drawn from.
        usable: the examples.
        windows: how an epoch is cut into batches.
        key: of the cell's permutations.
        weight: of its language among those of the data set, greater than 0.
    """

    kind: str
    dataset: int
    language: int | None
    question_mask: int
    passage_mask: int
    usable: UsableExamples
    windows: Windows
    key: int
    weight: float = 1.0


@dataclass(frozen=True)
class ExcludedCell:
    """A cell that no batch can be made from, and why.

    `dataset` is the corpus's name, `language` a code or None (all languages of the cell), `num_groups` the distinct
    passage groups of its usable examples.
    """

    dataset: str
    kind: str
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
    `dataset_weights[dataset]`: what its size is multiplied by in the draw of data sets; 1 where nothing is said.
    """

    cells: list[Cell] = field(default_factory=list)
    excluded: list[ExcludedCell] = field(default_factory=list)
    num_ids: dict[tuple[str, int], int] = field(default_factory=dict)
    dataset_weights: dict[int, float] = field(default_factory=dict)


def find_cells(
    corpora: Sequence[ParallelCorpus],
    config: SamplingConfig,
    *,
    kinds: Sequence[str],
    languages: Sequence[str],
    seed: int,
    progress: bool,
    weights: LanguageWeights | None = None,
    dataset_weights: Sequence[float] | None = None,
) -> CellTable:
    """Find the cells of every kind and data set, and those that give no batch: too small, or of weight 0.

    Args:
        weights: of the languages; by default all are alike.
        dataset_weights: of the corpora; by default all are 1.

    Raises:
        NoCellError: a kind has no cell; the message lists every excluded cell and how to mend it.
    """
    weights = weights or LanguageWeights()
    table = CellTable(dataset_weights=dict(enumerate(dataset_weights or ())))
    for dataset, corpus in enumerate(corpora):
        if table.dataset_weights.get(dataset, 1) == 0:
            reason = "the weight of its corpus is 0"
            table.excluded.extend(ExcludedCell(corpus.name, kind, None, 0, reason) for kind in kinds)
            continue
        candidates = _candidates(corpus, kinds, languages, weights, table.excluded)
        usable = open_usable(corpus, [candidate.selection for candidate in candidates], progress=progress)
        first = len(table.cells)
        for candidate in candidates:
            weight = 1.0 if candidate.language is None else weights.of_language(candidate.language)
            _admit(table, candidate, usable[candidate.selection], corpus, dataset, config.batch_size, seed, weight)
        _count_ids(table, table.cells[first:], corpus, progress=progress)
    for kind in kinds:
        if not any(cell.kind == kind for cell in table.cells):
            raise NoCellError(_nothing_left(kind, table.excluded, config), table.excluded)
    return table


@dataclass(frozen=True)
class _Candidate:
    kind: str
    language: str | None
    selection: Selection


def _candidates(
    corpus: ParallelCorpus,
    kinds: Sequence[str],
    languages: Sequence[str],
    weights: LanguageWeights,
    excluded: list[ExcludedCell],
) -> list[_Candidate]:
    """The cells that a data set could have by its languages and their weights; the others go to `excluded`."""
    trained = tuple(language for language in corpus.languages if language in languages)
    candidates: list[_Candidate] = []
    for kind in map(KINDS.__getitem__, kinds):
        lacking = [code for code in kind.fixed_languages if code not in trained]
        if not trained:
            excluded.append(ExcludedCell(corpus.name, kind.name, None, 0, "it has none of the languages trained on"))
        elif lacking:
            reason = f"{language_name(lacking[0])} is not among its languages trained on"
            language = lacking[0] if kind.one_language else None
            excluded.append(ExcludedCell(corpus.name, kind.name, language, 0, reason))
        elif kind.match == "different" and len(trained) < 2:
            reason = f"{trained[0]} is the only one of its languages trained on, two are needed"
            excluded.append(ExcludedCell(corpus.name, kind.name, None, 0, reason))
        else:
            found = _cells_of(kind, trained, weights)
            candidates += [one for one in found if one.selection.languages]
            excluded += [
                ExcludedCell(corpus.name, kind.name, one.language, 0, "sampling.language_weights gives it the weight 0")
                for one in found
                if not one.selection.languages
            ]
    return candidates


def _cells_of(kind: BatchKind, trained: tuple[str, ...], weights: LanguageWeights) -> list[_Candidate]:
    """The cells of a kind; those that only languages of weight 0 are left for select among no language."""
    drawn = tuple(code for code in trained if weights.of_language(code) > 0)
    if kind.one_language:
        codes = kind.fixed_languages or trained
        return [_Candidate(kind.name, code, Selection(kind.match, (code,) if code in drawn else ())) for code in codes]
    texts: tuple[Text, Text] = (kind.query_text, "passage")
    if kind.match == "same":
        return [_Candidate(kind.name, None, Selection(kind.match, drawn, kind.question, kind.passage, texts))]
    never = tuple(pair for pair in weights.never_drawn() if set(pair) <= {*trained})
    return [_Candidate(kind.name, None, Selection(kind.match, trained, kind.question, kind.passage, texts, never))]


def _admit(
    table: CellTable,
    candidate: _Candidate,
    usable: UsableExamples,
    corpus: ParallelCorpus,
    dataset: int,
    batch_size: int,
    seed: int,
    weight: float,
) -> None:
    if usable.num_groups < batch_size:
        reason = _too_small(candidate, usable, batch_size)
        table.excluded.append(ExcludedCell(corpus.name, candidate.kind, candidate.language, usable.num_groups, reason))
        return
    language = None if candidate.language is None else corpus.languages.index(candidate.language)
    question_mask, passage_mask = candidate.selection.masks(corpus)
    table.cells.append(
        Cell(
            kind=candidate.kind,
            dataset=dataset,
            language=language,
            question_mask=question_mask,
            passage_mask=passage_mask,
            usable=usable,
            windows=cut_epoch(len(usable), batch_size, usable.group_sizes, usable.group_counts),
            key=derive_key("cell", seed, corpus.fingerprint, dataset, candidate.kind, candidate.language or ""),
            weight=weight,
        )
    )


def _too_small(candidate: _Candidate, usable: UsableExamples, batch_size: int) -> str:
    if len(usable) == 0:
        drawn = " with a weight above 0" if candidate.selection.never else ""
        return f"no example has {KINDS[candidate.kind].needs(candidate.language)}{drawn}"
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
    for kind in sorted({cell.kind for cell in cells if KINDS[cell.kind].one_language}):
        _count_ids_of_all_languages(table, [cell for cell in cells if cell.kind == kind], corpus, progress=progress)


def _count_ids_of_all_languages(table: CellTable, cells: list[Cell], corpus: ParallelCorpus, *, progress: bool) -> None:
    """The same for the cells of one kind and data set that have a language each."""
    place = (cells[0].kind, cells[0].dataset)
    if len(cells) < 2 or table.num_ids[place] == corpus.num_examples:
        return
    codes = tuple(corpus.languages[cell.language] for cell in cells if cell.language is not None)
    selection = Selection("same", codes)
    table.num_ids[place] = len(open_usable(corpus, [selection], progress=progress)[selection])


def _nothing_left(kind: str, excluded: list[ExcludedCell], config: SamplingConfig) -> str:
    lines = "\n".join(f"  {cell}" for cell in excluded)
    return (
        f"sampling.kind is {config.kind}, but no data set can fill a batch of kind {kind} and "
        f"sampling.batch_size {config.batch_size}:\n{lines}\n"
        "Lower sampling.batch_size, add data or languages, or choose another sampling.kind."
    )
