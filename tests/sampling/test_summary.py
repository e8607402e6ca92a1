"""The summary agrees with the plan and with a count over the batches."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hybatch.sampling import BatchSampler, left_out, summarise, summary_tables
from tests.sampling.corpora import FakeCorpus, few_thai, fresh_folder, full_corpus, ragged_corpus, sampler_of


@pytest.fixture(scope="module")
def sampler() -> BatchSampler:
    groups = [row // 2 for row in range(200)]
    return sampler_of(few_thai(), full_corpus(200, ("ar", "en"), groups=groups, name="pairs"), batch_size=80)


def printed(sampler: BatchSampler, steps: int) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(*summary_tables(summarise(sampler, map(sampler.batch, range(steps)))))
    return console.file.getvalue()


def test_planned_steps_are_those_of_the_whole_run_and_not_of_the_drawn_part(sampler: BatchSampler) -> None:
    summary = summarise(sampler, map(sampler.batch, range(10)))
    assert summary.drawn_steps == 10
    assert sum(summary.drawn_kinds.values()) == 10
    assert sum(cell.planned_steps for cell in summary.cells) == sum(summary.planned_kinds.values()) == 50
    whole = summarise(sampler, map(sampler.batch, range(50)))
    assert whole.drawn_kinds == summary.planned_kinds


def test_shares_are_counted_over_the_drawn_examples(sampler: BatchSampler) -> None:
    batches = [sampler.batch(step) for step in range(20)]
    summary = summarise(sampler, batches)
    assert summary.drawn_examples == 20 * 80
    pairs = [
        (sampler.corpora[b.dataset].languages[q], sampler.corpora[b.dataset].languages[p])
        for b in batches
        for q, p in zip(b.question_languages, b.passage_languages, strict=True)
    ]
    assert summary.pair_counts == {pair: pairs.count(pair) for pair in sorted(set(pairs))}
    assert sum(summary.pair_shares.values()) == pytest.approx(1)
    for code in ("ar", "de", "en"):
        assert summary.question_shares[code] == sum(q == code for q, _ in pairs) / len(pairs)
        assert summary.passage_shares[code] == sum(p == code for _, p in pairs) / len(pairs)
    assert summary.displaced == sum(batch.displaced for batch in batches)
    assert summary.spilled == sum(batch.spilled for batch in batches)


def test_a_cell_s_figures_follow_from_its_examples(sampler: BatchSampler) -> None:
    cells = {(cell.dataset, cell.kind, cell.language): cell for cell in summarise(sampler, []).cells}
    german = cells["sentences", "x-x-mono", "de"]
    assert (german.num_usable, german.num_unusable, german.num_groups) == (300, 0, 300)
    assert (german.steps_per_epoch, german.left_over) == (3, 60)
    assert german.epochs == german.planned_steps / 3
    assert cells["pairs", "x-y", None].num_groups == 100
    assert cells["pairs", "x-y", None].collision_probability == pytest.approx(1 / 199)
    assert ("sentences", "x-x-mono", "th") not in cells


def test_examples_without_a_pair_are_counted_as_unusable() -> None:
    corpus = ragged_corpus(300, ("de", "en"))
    (cell,) = summarise(sampler_of(corpus, kind="x-y", batch_size=10), []).cells
    assert cell.num_usable + cell.num_unusable == 300
    assert cell.num_unusable > 100


def test_tables_show_plan_exclusions_and_shares(sampler: BatchSampler) -> None:
    text = printed(sampler, 20)
    assert "50 steps of 80 examples: x-x-mono" in text
    assert "74 usable examples are fewer than a batch of 80" in text
    assert "Languages over 20 drawn batches" in text
    assert "pairs" in text


def test_without_drawn_batches_there_are_no_shares_to_show(sampler: BatchSampler) -> None:
    text = printed(sampler, 0)
    assert "50 steps of 80 examples" in text
    assert "Languages over" not in text


def test_what_cannot_be_used_is_said_a_line_each() -> None:
    masks = [0b01, 0b10, 0b11, 0b11] * 40
    corpus = FakeCorpus(fresh_folder(), languages=("de", "en"), question_mask=masks, passage_mask=masks)
    (line,) = left_out(sampler_of(corpus, kind="x-y", batch_size=20))
    assert "80 of 160 examples, which do not have a question and a passage in two different languages" in line
    assert left_out(sampler_of(corpus, kind="x-x-mono", batch_size=20)) == []
    thai = left_out(sampler_of(few_thai(), kind="x-x-mono", batch_size=100))
    assert len(thai) == 1
    assert "x-x-mono th" in thai[0]
