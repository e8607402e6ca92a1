"""The usable examples are exactly those of the rule, found once, and opened without reading them."""

from __future__ import annotations

import itertools
import os
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.sampling import usable as usable_module
from hybatch.sampling.kinds import Match, Text
from hybatch.sampling.usable import Selection, language_mask, open_usable
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus, ragged_corpus
from tests.sampling.patience import PATIENT

LANGUAGES = ("ar", "de", "en", "zh")
SELECTIONS = (
    [
        Selection(rule, codes)
        for rule in get_args(Match)
        for size in (1, 2, 3, 4)
        for codes in itertools.combinations(LANGUAGES, size)
    ]
    + [
        Selection(rule, LANGUAGES, question, passage)
        for rule in get_args(Match)
        for question, passage in ((None, "en"), ("en", None), ("de", "zh"))
    ]
    + [
        Selection("different", LANGUAGES, question, None, (text, text))
        for text in get_args(Text)
        for question in (None, "en")
    ]
)


def can_be_used(selection: Selection, has_question: set[str], has_passage: set[str]) -> bool:
    """The rule, spelled out over pairs of languages."""
    queries, passages = ({"question": has_question, "passage": has_passage}[text] for text in selection.texts)
    return any(
        {"same": x == y, "different": x != y, "free": True}[selection.rule] and x in queries and y in passages
        for x in ([selection.question] if selection.question else selection.languages)
        for y in ([selection.passage] if selection.passage else selection.languages)
    )


def test_every_combination_of_texts_is_judged_by_the_rule() -> None:
    masks = list(itertools.product(range(16), repeat=2))
    corpus = FakeCorpus(
        fresh_folder(),
        languages=LANGUAGES,
        question_mask=[q for q, _ in masks],
        passage_mask=[p for _, p in masks],
    )
    found = open_usable(corpus, SELECTIONS, progress=False)

    def codes(mask: int) -> set[str]:
        return {code for bit, code in enumerate(LANGUAGES) if mask >> bit & 1}

    for selection in SELECTIONS:
        expected = [row for row, (q, p) in enumerate(masks) if can_be_used(selection, codes(q), codes(p))]
        examples = found[selection]
        assert examples.rows(np.arange(len(examples))).tolist() == expected, selection


@PATIENT
@given(st.integers(0, 1000), st.integers(1, 60))
def test_group_sizes_and_collisions_are_those_of_the_usable_examples(seed: int, num_examples: int) -> None:
    corpus = ragged_corpus(num_examples, LANGUAGES, seed=seed)
    selection = Selection("different", LANGUAGES)
    examples = open_usable(corpus, [selection], progress=False)[selection]
    groups = corpus.passage_groups(examples.rows(np.arange(len(examples)))).tolist()
    assert examples.num_groups == len(set(groups))
    sizes = Counter(Counter(groups).values())
    assert dict(zip(examples.group_sizes.tolist(), examples.group_counts.tolist(), strict=True)) == sizes
    pairs = list(itertools.combinations(groups, 2))
    expected = sum(a == b for a, b in pairs) / len(pairs) if pairs else 0.0
    assert examples.collision_probability == pytest.approx(expected)


def test_scans_in_small_pieces_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def content() -> list[object]:
        corpora = [
            ragged_corpus(500, LANGUAGES, seed=3),
            full_corpus(300, LANGUAGES, groups=[i // 2 for i in range(300)]),
        ]
        # One unusable example late, after a run of usable ones: the file is begun in the middle.
        late = [15] * 400 + [0] + [15] * 20
        corpora.append(FakeCorpus(fresh_folder(), languages=LANGUAGES, question_mask=late, passage_mask=late))
        found = [open_usable(corpus, SELECTIONS, progress=False) for corpus in corpora]
        return [
            (one.rows(np.arange(len(one))).tolist(), one.group_sizes.tolist(), one.group_counts.tolist())
            for opened in found
            for one in opened.values()
        ]

    whole = content()
    monkeypatch.setattr(usable_module, "_ROWS_AT_ONCE", 64)
    monkeypatch.setattr(usable_module, "_GROUPS_AT_ONCE", 50)
    assert content() == whole


def test_no_list_is_stored_where_every_example_is_usable() -> None:
    corpus = full_corpus(100, LANGUAGES)
    selections = [Selection("same", ("en",)), Selection("different", LANGUAGES)]
    found = open_usable(corpus, selections, progress=False)
    assert [len(one) for one in found.values()] == [100, 100]
    assert not list(corpus.directory.rglob("examples.bin"))


def test_the_second_opening_reads_no_mask_and_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ragged_corpus(200, LANGUAGES)
    first = open_usable(corpus, SELECTIONS, progress=False)
    files = {path: path.stat().st_mtime_ns for path in corpus.directory.rglob("*")}
    monkeypatch.setattr(FakeCorpus, "question_mask", None)
    monkeypatch.setattr(FakeCorpus, "passage_groups", None)
    second = open_usable(corpus, SELECTIONS, progress=False)
    assert {path: path.stat().st_mtime_ns for path in corpus.directory.rglob("*")} == files
    for selection in SELECTIONS:
        numbers = np.arange(len(first[selection]))
        assert np.array_equal(first[selection].rows(numbers), second[selection].rows(numbers))


def test_another_content_in_the_same_folder_is_not_taken_for_the_cached_one(tmp_path: Path) -> None:
    selection = Selection("same", ("ar",))
    for masks in ([1, 0, 1], [0, 1, 0]):
        corpus = FakeCorpus(tmp_path, languages=LANGUAGES, question_mask=masks, passage_mask=masks)
        examples = open_usable(corpus, [selection], progress=False)[selection]
        assert examples.rows(np.arange(len(examples))).tolist() == np.flatnonzero(masks).tolist()


def test_an_interrupted_scan_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = ragged_corpus(200, LANGUAGES)

    def interrupted(self: FakeCorpus, indices: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FakeCorpus, "passage_groups", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_usable(corpus, SELECTIONS, progress=False)
    assert [path.name for path in corpus.directory.iterdir()] == ["cells.lock"]
    assert len(open_usable(corpus, SELECTIONS, progress=False)) == len(SELECTIONS)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    corpus = ragged_corpus(20, LANGUAGES)
    corpus.directory = corpus.directory / "missing"
    with pytest.raises(UserError, match=r"missing: cannot write .* HYBATCH_CACHE_DIR"):
        open_usable(corpus, SELECTIONS, progress=False)


def test_a_pickled_copy_maps_the_file_again_instead_of_carrying_it() -> None:
    corpus = ragged_corpus(5000, LANGUAGES)
    selection = Selection("same", ("de",))
    examples = open_usable(corpus, [selection], progress=False)[selection]
    pickled = pickle.dumps(examples)
    assert len(pickled) < 1000
    numbers = np.arange(len(examples))
    assert np.array_equal(pickle.loads(pickled).rows(numbers), examples.rows(numbers))


def test_processes_that_start_together_find_the_same_without_treading_on_each_other() -> None:
    corpus = ragged_corpus(3000, LANGUAGES)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if len(open_usable(corpus, SELECTIONS, progress=False)) == len(SELECTIONS) else 1
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    assert len(list(corpus.directory.glob("cells-*"))) == len(SELECTIONS)


def test_bits_follow_the_order_of_the_corpus() -> None:
    assert language_mask(full_corpus(1, LANGUAGES), ("en", "ar")) == 0b0101


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _flip])
@pytest.mark.parametrize("name", ["cell.json", "examples.bin"])
def test_what_is_damaged_is_found_anew_and_that_is_said(
    name: str, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ragged_corpus(500, LANGUAGES, seed=1)
    selection = Selection("same", ("de", "en"))
    before = open_usable(corpus, [selection], progress=False)[selection]
    assert 0 < len(before) < 500
    rows = before.rows(np.arange(len(before)))
    [path] = corpus.directory.glob(f"cells-*/{name}")
    damage(path)
    after = open_usable(corpus, [selection], progress=False)[selection]
    assert "which examples are usable is found anew" in capsys.readouterr().err
    assert np.array_equal(after.rows(np.arange(len(after))), rows)
    open_usable(corpus, [selection], progress=False)
    assert capsys.readouterr().err == ""
