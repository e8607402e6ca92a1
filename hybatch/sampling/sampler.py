"""Which global batch comes at step s: a pure function of the options, the corpora's content, the seed and s."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.sampling.cells import Cell, ExcludedCell, find_cells
from hybatch.sampling.companions.answers import join_answers
from hybatch.sampling.config import SamplingConfig, training_languages
from hybatch.sampling.keyed import Int64Array, KeyedPermutation, UInt64Array, derive_key, draws, subkey
from hybatch.sampling.kinds import COMPOSITIONS, KINDS, Text
from hybatch.sampling.languages import (
    draw_language,
    draw_language_pair,
    draw_weighted_language,
    draw_weighted_pair,
)
from hybatch.sampling.plan import Plan, draw_plan, planned_kinds
from hybatch.sampling.weights import language_weights

_STREAM = 1
"""Goes up with any change after which the same options give other batches."""


@dataclass(frozen=True, eq=False)
class GlobalBatch:
    """The examples of one optimiser step over all processes, without their texts.

    No example and no passage group of the corpus stands in it twice.

    Attributes:
        step: the step it belongs to.
        kind: what it is made of, a name of `KINDS`; a hybrid or sequential run draws batches of several.
        dataset: index into the sampler's corpora.
        language: of kinds in one language, an index into corpora[dataset].languages; else None.
        examples: [B] int64 example indices of the corpus.
        question_languages, passage_languages: [B] int64 indices into corpora[dataset].languages, of the queries
            (which are passages in some kinds) and of the passages.
        passage_groups: [B] int64, all different but where one's passage answers the other's question, too: these have
            the group of the first of them.
        renamed_groups: the corpus's passage group -> its group in this batch, where it is another one, EMPTY_SLOT where
            it answers several queries: what the groups of hard negatives must be told by.
        displaced: examples that gave way because their passage group was already there.
        spilled: examples read beyond the batch's own window of the epoch, displaced ones included.
    """

    step: int
    kind: str
    dataset: int
    language: int | None
    examples: Int64Array
    question_languages: Int64Array
    passage_languages: Int64Array
    passage_groups: Int64Array
    displaced: int
    spilled: int = 0
    renamed_groups: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchTexts:
    """Texts of some rows of a batch, parallel to them.

    `questions` are the queries; `query_text` says what they are as texts, and are to be encoded as.
    Hard negatives are in the passage's language, [] where an example has none; `hard_negative_groups` holds for each
    the passage group that its text belongs to, or the batch's group of the query that this answers; -1 where it is no
    example's passage, EMPTY_SLOT where it answers several queries of the batch. `scores` are a teacher's, of each row's
    passage and of each of its hard negatives, NaN where none is known; [] where the corpus has none.
    """

    questions: list[str]
    passages: list[str]
    hard_negatives: list[list[str]]
    hard_negative_groups: list[list[int]]
    query_text: Text = "question"
    scores: list[list[float]] = field(default_factory=list)


class BatchSampler:
    """Say which batch comes at each step of a run.

    `batch(step)` does not depend on earlier calls, on the number of processes or on the machine: each process asks
    for the batch and takes its own rows. A batch comes from one cell (kind, data set and, for a kind in one language,
    that language), which the plan drew. The batch at position k of a cell whose epoch has S windows (`windows`) belongs
    to epoch k // S and window k % S: it reads the examples of that window in the order of the epoch's keyed permutation
    and takes the first batch_size of which none has the passage group of an earlier one. Examples that give way are
    counted as displaced; they, the rest of the window and the tail of the epoch are left over until a later epoch's
    shuffle.

    Args:
        corpora: the data sets, in the order of the configuration.
        config: what to draw.
        seed: chooses the draws; not negative.
        total_steps: steps of the whole run. With alpha scheduled, and in sequential runs, every batch depends on it.
        progress: show bars while the usable examples of a large corpus are found for the first time.
        weights: of the corpora, how often each is drawn beside what its size says; by default all alike.

    Attributes:
        cells: what batches come from.
        excluded: cells too small for one batch.
        languages: codes trained on.
        plan: the cell and the position of every step.
        identity: hexadecimal digest of all that the batches depend on; equal identities mean equal batches.

    Raises:
        UserError: an option does not fit the corpora, or no data set can fill a batch of a kind that is asked for.
    """

    def __init__(
        self,
        corpora: Sequence[ParallelCorpus],
        config: SamplingConfig,
        *,
        seed: int,
        total_steps: int,
        progress: bool = True,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not corpora:
            raise UserError("corpora is empty; name at least one corpus to train on")
        if total_steps < 1:
            raise UserError(f"the run has {total_steps} steps; at least one is needed to plan batches")
        if seed < 0:
            raise UserError(f"seed is {seed}; give a whole number of at least 0")
        if weights is not None and not any(weights):
            raise UserError("corpora: every weight is 0, so that nothing can be drawn; give one of them more")
        self.corpora = list(corpora)
        self._dataset_weights = list(weights or [1.0] * len(corpora))
        self.config = config
        self.seed = seed
        self.total_steps = total_steps
        self.languages = training_languages(config, (code for corpus in corpora for code in corpus.languages))
        kinds = planned_kinds(config, total_steps)
        of_languages = language_weights(config, kinds, self.languages)
        table = find_cells(
            corpora,
            config,
            kinds=kinds,
            languages=self.languages,
            seed=seed,
            progress=progress,
            weights=of_languages,
            dataset_weights=self._dataset_weights,
        )
        self.cells: list[Cell] = table.cells
        self.excluded: list[ExcludedCell] = table.excluded
        self.plan: Plan = draw_plan(config, table, seed=seed, total_steps=total_steps)
        self.identity: str = self._identity()
        self._language_key = derive_key("languages", seed)
        self._languages_whole = [of_languages.whole_languages(corpus.languages) for corpus in corpora]
        self._pairs_whole = [of_languages.whole_pairs(corpus.languages) for corpus in corpora]

    def batch(self, step: int) -> GlobalBatch:
        """The batch of `step`, in [0, total_steps): O(batch_size) wherever in the run, whatever the corpus's size.

        Raises:
            IndexError: the run has no such step.
        """
        if not 0 <= step < self.total_steps:
            raise IndexError(f"step {step} of a run of {self.total_steps} steps")
        cell = self.cells[self.plan.cells[step]]
        epoch, window = divmod(int(self.plan.positions[step]), cell.windows.count)
        examples, groups, num_read = self._examples_of(cell, epoch, window)
        questions, passages = self._languages_of(cell, step, examples)
        renamed_groups: Mapping[int, int] = {}
        if KINDS[cell.kind].query_text == "question":
            groups, renamed_groups = join_answers(self.corpora[cell.dataset], examples, questions, groups)
        return GlobalBatch(
            step=step,
            kind=cell.kind,
            dataset=cell.dataset,
            language=cell.language,
            examples=examples,
            question_languages=questions,
            passage_languages=passages,
            passage_groups=groups,
            displaced=num_read - len(examples),
            spilled=max(0, num_read - cell.windows.width),
            renamed_groups=renamed_groups,
        )

    def texts(self, batch: GlobalBatch, rows: slice | None = None) -> BatchTexts:
        """The texts of a batch, or of its `rows` only."""
        rows = slice(None) if rows is None else rows
        corpus = self.corpora[batch.dataset]
        examples, passage_languages = batch.examples[rows], batch.passage_languages[rows]
        negatives: list[list[str]] = [[] for _ in examples]
        negative_groups: list[list[int]] = [[] for _ in examples]
        if corpus.has_hard_negatives:
            negatives = corpus.hard_negatives(examples, passage_languages)
            negative_groups = [
                [batch.renamed_groups.get(group, group) for group in row]
                for row in corpus.hard_negative_groups(examples, passage_languages)
            ]
        query_text = KINDS[batch.kind].query_text
        read = corpus.questions if query_text == "question" else corpus.passages
        return BatchTexts(
            questions=read(examples, batch.question_languages[rows]),
            passages=corpus.passages(examples, passage_languages),
            hard_negatives=negatives,
            hard_negative_groups=negative_groups,
            query_text=query_text,
            scores=corpus.scores(examples, passage_languages) if corpus.has_scores else [],
        )

    def _examples_of(self, cell: Cell, epoch: int, window: int) -> tuple[Int64Array, Int64Array, int]:
        """Examples [B], their passage groups [B], and how many examples were read to find them."""
        size = self.config.batch_size
        permutation = KeyedPermutation(len(cell.usable), subkey(cell.key, epoch))
        corpus = self.corpora[cell.dataset]
        examples = groups = np.empty(0, dtype=np.int64)
        num_read, to_read = 0, min(cell.windows.needed, 2 * size)
        # Ends because a cell has at least batch_size groups and the places of an epoch hold all of its examples.
        while True:
            places = cell.windows.places(window, num_read, to_read)
            more = cell.usable.rows(permutation(places))
            examples = np.concatenate([examples, more])
            groups = np.concatenate([groups, corpus.passage_groups(more)])
            first_of_group = np.sort(np.unique(groups, return_index=True)[1])
            if len(first_of_group) >= size:
                taken = first_of_group[:size]
                return examples[taken], groups[taken], int(taken[-1]) + 1
            num_read, to_read = to_read, 2 * to_read

    def expected_pairs(self, batch: GlobalBatch) -> npt.NDArray[np.float64]:
        """How many of a batch's examples have each pair of languages, on average over the draws of languages.

        Returns:
            [L, L] float64 of the data set's languages, the query's down and the passage's across.
        """
        cell, corpus = self.cells[self.plan.cells[batch.step]], self.corpora[batch.dataset]
        num_languages = len(corpus.languages)
        pairs_LL = np.zeros((num_languages, num_languages))
        if cell.language is not None:
            pairs_LL[cell.language, cell.language] = len(batch.examples)
            return pairs_LL
        weights_LL = self._weights_of_pairs(cell)
        masks, counts = np.unique(np.stack(self._masks_of(cell, batch.examples)), axis=1, return_counts=True)
        for questions, passages, count in zip(*masks.tolist(), counts.tolist(), strict=True):
            asks_L, answers_L = (
                np.array([mask >> k & 1 for k in range(num_languages)]) for mask in (questions, passages)
            )
            drawn_LL = np.outer(asks_L, answers_L) * weights_LL
            pairs_LL += count / drawn_LL.sum() * drawn_LL
        return pairs_LL

    def _weights_of_pairs(self, cell: Cell) -> Int64Array:
        """[L, L]: by what weight a cell of several languages draws each pair."""
        match, num_languages = KINDS[cell.kind].match, len(self.corpora[cell.dataset].languages)
        if match == "same":
            weights_L = self._languages_whole[cell.dataset]
            return np.diag(np.ones(num_languages, dtype=np.int64) if weights_L is None else weights_L)
        weights_LL = self._pairs_whole[cell.dataset]
        if weights_LL is not None:
            return weights_LL
        alike_LL = np.ones((num_languages, num_languages), dtype=np.int64)
        return alike_LL - np.eye(num_languages, dtype=np.int64) if match == "different" else alike_LL

    def _masks_of(self, cell: Cell, examples: Int64Array) -> tuple[UInt64Array, UInt64Array]:
        """[B] each: the languages that the query, and that the passage, of each example may be in."""
        corpus = self.corpora[cell.dataset]
        queries_in = corpus.question_mask if KINDS[cell.kind].query_text == "question" else corpus.passage_mask
        question_masks = queries_in(examples) & np.uint64(cell.question_mask)
        return question_masks, corpus.passage_mask(examples) & np.uint64(cell.passage_mask)

    def _languages_of(self, cell: Cell, step: int, examples: Int64Array) -> tuple[Int64Array, Int64Array]:
        if cell.language is not None:
            alike = np.full(len(examples), cell.language, dtype=np.int64)
            return alike, alike.copy()
        question_masks, passage_masks = self._masks_of(cell, examples)
        numbers = draws(subkey(self._language_key, step), np.arange(len(examples)))
        match, num_languages = KINDS[cell.kind].match, len(self.corpora[cell.dataset].languages)
        if match == "same":
            masks, weights_L = question_masks & passage_masks, self._languages_whole[cell.dataset]
            alike = (
                draw_language(numbers, masks, num_languages)
                if weights_L is None
                else draw_weighted_language(numbers, masks, weights_L)
            )
            return alike, alike.copy()
        weights_LL = self._pairs_whole[cell.dataset]
        if weights_LL is not None:
            return draw_weighted_pair(numbers, question_masks, passage_masks, weights_LL)
        different = match == "different"
        return draw_language_pair(numbers, question_masks, passage_masks, num_languages, different=different)

    def _identity(self) -> str:
        fingerprints = [corpus.fingerprint for corpus in self.corpora]
        # Options that came later and are not given leave the digest as it was.
        added = {composition.option for composition in COMPOSITIONS.values()} | {"language_weights", "pairs"}
        options = {name: value for name, value in asdict(self.config).items() if name not in added or value is not None}
        weights = [self._dataset_weights] if set(self._dataset_weights) != {1} else []
        content = json.dumps([_STREAM, options, fingerprints, self.seed, self.total_steps, *weights], sort_keys=True)
        return f"{derive_key('identity', content):016x}"
