"""The table of batch kinds: its entries mean what their names say, and one entry is all that a new kind takes."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from typing import Any, Literal, get_args

import pytest

from hybatch.errors import UserError
from hybatch.sampling import COMPOSITIONS, KINDS, LABELS, BatchKind, SamplingConfig, config, left_out, summarise
from hybatch.sampling.config import KindName, SamplingKind
from hybatch.sampling.kinds import CROSS_LINGUAL, MONOLINGUAL
from hybatch.sampling.plan import kind_shares
from tests.sampling.chi_square import chance_of_counts
from tests.sampling.corpora import full_corpus, ragged_corpus, sampler_of
from tests.sampling.test_sampler import assert_is_sound

NEW = [
    BatchKind(name="de-el", label="De-El", summary="", match="different", question="de", passage="el"),
    BatchKind(name="any", label="Any", summary="", match="free"),
    BatchKind(name="any-de", label="Any-De", summary="", match="free", passage="de"),
    BatchKind(name="de-de", label="De-De", summary="", match="same", question="de"),
    BatchKind(name="ar-ar", label="Ar-Ar", summary="", match="same", one_language=True, question="ar", passage="ar"),
    BatchKind(name="into-de", label="Into De", summary="", match="different", passage="de", query_text="passage"),
]


def _enter(kind: BatchKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a kind an entry of the table, and offer it as the options do when they are imported."""
    monkeypatch.setitem(KINDS, kind.name, kind)
    monkeypatch.setattr(config, "KindName", Literal[tuple(KINDS)])
    monkeypatch.setattr(config, "SamplingKind", Literal[tuple(KINDS | COMPOSITIONS)])


@pytest.fixture(params=NEW, ids=lambda kind: kind.name)
def new_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> BatchKind:
    """A kind that is an entry of the table and nothing else."""
    _enter(request.param, monkeypatch)
    return request.param


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_entry_is_what_its_name_says(kind: BatchKind) -> None:
    assert (kind.name == "bitext") == (kind.query_text == "passage") == kind.asks_both_ways
    if kind.name == "bitext":
        assert (kind.match, kind.one_language, kind.fixed_languages) == ("different", False, ())
        return
    named = re.fullmatch(r"(\w)-(\w)(-mono)?|(en|x)-(en|x)", kind.name)
    assert named, "say here what names of another form mean"
    question, passage = (kind.name.removesuffix("-mono")).split("-")
    assert kind.match == ("same" if question == passage else "different")
    assert (kind.question, kind.passage) == tuple(part if len(part) == 2 else None for part in (question, passage))
    assert kind.one_language == (kind.name.endswith("-mono") or kind.question == kind.passage is not None)
    assert kind.label.lower() == kind.name


def test_options_offer_the_kinds_of_the_table_and_no_other() -> None:
    assert get_args(KindName) == tuple(KINDS)
    assert get_args(SamplingKind) == (*KINDS, *COMPOSITIONS) == tuple(LABELS)
    assert len({*KINDS.values()} | {*COMPOSITIONS.values()}) == len(LABELS) == len(set(LABELS.values()))


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_composition_has_its_options_and_shares_out_every_step(name: str) -> None:
    composition = COMPOSITIONS[name]
    assert {composition.option, composition.short_form} <= {field.name for field in fields(SamplingConfig)}
    shares = kind_shares(SamplingConfig(kind=name), 7)
    assert list(shares) == [MONOLINGUAL, CROSS_LINGUAL]
    assert sum(shares.values()).tolist() == [1.0] * 7


@pytest.mark.parametrize(
    "entry",
    [
        {"match": "same", "question": "en", "passage": "de"},
        {"match": "different", "question": "en", "passage": "en"},
        {"match": "different", "one_language": True},
        {"match": "free", "one_language": True},
        {"match": "same", "query_text": "passage"},
        {"match": "free", "query_text": "passage"},
    ],
)
def test_an_entry_that_no_batch_could_be_of_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="k: "):
        BatchKind(name="k", label="K", summary="", **entry)


def test_one_entry_makes_a_kind_that_options_cells_batches_and_summaries_know(new_kind: BatchKind) -> None:
    corpora = [ragged_corpus(400, ("ar", "de", "el", "en"), seed=5), full_corpus(100, ("ar", "de", "el"))]
    options: list[dict[str, Any]] = [{"kind": new_kind.name}, {"mixture": {new_kind.name: 0.5, "x-y": 0.5}}]
    for more in options:
        sampler = sampler_of(*corpora, batch_size=10, total_steps=40, **more)
        batches = [sampler.batch(step) for step in range(40)]
        for batch in batches:
            assert_is_sound(sampler, batch)
        assert summarise(sampler, batches).planned_kinds[new_kind.name] == sum(b.kind == new_kind.name for b in batches)
        unusable = [line for line in left_out(sampler) if f"{new_kind.name}: " in line]
        assert len(unusable) == (not new_kind.one_language)
        assert all(new_kind.needs() in line for line in unusable)
    with pytest.raises(UserError, match=rf"sampling\.kind is 'x-z': it must be one of .* {new_kind.name}, hybrid"):
        SamplingConfig(kind="x-z")


def test_pairs_of_a_free_kind_are_uniform_equal_languages_included(monkeypatch: pytest.MonkeyPatch) -> None:
    _enter(NEW[1], monkeypatch)
    sampler = sampler_of(full_corpus(300, ("ar", "de", "en")), kind="any", batch_size=50, total_steps=300)
    pairs = Counter(
        pair
        for batch in map(sampler.batch, range(300))
        for pair in zip(batch.question_languages.tolist(), batch.passage_languages.tolist(), strict=True)
    )
    assert len(pairs) == 9
    assert chance_of_counts(list(pairs.values())) > 1e-4


@pytest.mark.parametrize(
    ("kind", "language", "sentence"),
    [
        (KINDS["x-x-mono"], "de", "both question and passage in de"),
        (KINDS["x-x"], None, "both question and passage in one of the languages trained on"),
        (KINDS["x-y"], None, "a question and a passage in two different languages trained on"),
        (
            KINDS["x-en"],
            None,
            "a question in a language trained on other than English and a passage in English",
        ),
        (
            KINDS["en-x"],
            None,
            "a question in English and a passage in a language trained on other than English",
        ),
        (NEW[0], None, "a question in de and a passage in el"),
        (NEW[1], None, "a question and a passage in languages trained on"),
        (NEW[2], None, "a question in a language trained on and a passage in de"),
        (NEW[3], None, "both question and passage in de"),
        (KINDS["bitext"], None, "passages in two different languages trained on"),
        (NEW[5], None, "a passage in a language trained on other than de and a passage in de"),
    ],
)
def test_what_an_example_needs_is_said_in_words(kind: BatchKind, language: str | None, sentence: str) -> None:
    assert kind.needs(language) == sentence
