"""Which positives a step takes of examples that have several."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.sampling.companions.positives import draw_positives, positive_counts
from tests.corpus.layouts import opened, write_jsonl

NUMBER = 12
EVERY = slice(0, NUMBER)


def _rows(language: str) -> list[dict[str, Any]]:
    """Examples with 1 to 4 positives in each language, of scores 1, 2, ..."""
    return [
        {
            "id": f"{row}",
            "question": f"{row} {language}?",
            "positives": [{"text": f"{row} {language} {k}", "score": k + 1} for k in range(1 + row % 4)],
        }
        for row in range(NUMBER)
    ]


@pytest.fixture(scope="module")
def sampler_of_kind(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("positives")
    corpus = opened(write_jsonl(folder / "c", {code: _rows(code) for code in ("de", "en")}), folder)

    def build(kind: str, seed: int = 0) -> BatchSampler:
        config = SamplingConfig(kind=kind, batch_size=NUMBER)
        return BatchSampler([corpus], config, seed=seed, total_steps=2000, progress=False)

    return build


@pytest.mark.parametrize("kind", ["x-x-mono", "x-y"])
@pytest.mark.parametrize("most", [None, 1, 2, 9])
def test_a_step_takes_positives_in_the_passages_language_with_their_shares_of_the_scores(
    sampler_of_kind: Any, kind: str, most: int | None
) -> None:
    sampler = sampler_of_kind(kind)
    batch = sampler.batch(3)
    drawn = draw_positives(sampler, batch, EVERY, most)
    assert drawn is not None
    codes = [sampler.corpora[0].languages[index] for index in batch.passage_languages]
    for example, code, listed in zip(sampler.corpora[0].ids(batch.examples), codes, drawn, strict=True):
        there = 1 + int(example) % 4
        assert len(listed) == min(there, most or there)
        numbers = [int(text.split()[2]) for text, _ in listed]
        assert [text for text, _ in listed] == [f"{example} {code} {number}" for number in numbers]
        assert numbers == sorted(set(numbers))
        total = sum(number + 1 for number in numbers)
        assert [weight for _, weight in listed] == pytest.approx([(number + 1) / total for number in numbers])
    assert positive_counts(sampler, batch, most).tolist() == [len(listed) for listed in drawn]


def test_a_draw_depends_on_seed_step_and_example_and_on_nothing_else(sampler_of_kind: Any) -> None:
    sampler, other = sampler_of_kind("x-x-mono"), sampler_of_kind("x-x-mono", seed=1)
    batch = sampler.batch(5)
    whole = draw_positives(sampler, batch, EVERY, 2)
    assert whole is not None
    parts = [draw_positives(sampler, batch, slice(start, start + 3), 2) for start in range(0, NUMBER, 3)]
    assert [listed for part in parts for listed in part or ()] == whole

    def drawn_at(step: int, of: BatchSampler) -> dict[str, tuple[str, ...]]:
        found = draw_positives(of, of.batch(step), EVERY, 2) or []
        return {listed[0][0].split()[0]: tuple(text.split()[2] for text, _ in listed) for listed in found}

    assert len({tuple(sorted(drawn_at(step, sampler).items())) for step in range(6)}) > 3
    assert any(drawn_at(step, sampler) != drawn_at(step, other) for step in range(6))


def test_one_alone_is_drawn_as_often_as_its_score_says(sampler_of_kind: Any) -> None:
    sampler = sampler_of_kind("x-x-mono")
    times: Counter[str] = Counter()
    for step in range(600):
        for ((text, weight),) in draw_positives(sampler, sampler.batch(step), EVERY, 1) or []:
            assert weight == 1.0
            if text.startswith("3 "):  # four positives, of scores 1 to 4
                times[text.split()[2]] += 1
    assert times.total() == 600
    assert [times[number] / 600 for number in "0123"] == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.06)


def test_several_are_drawn_alike(sampler_of_kind: Any) -> None:
    sampler = sampler_of_kind("x-x-mono")
    times: Counter[str] = Counter()
    for step in range(600):
        for listed in draw_positives(sampler, sampler.batch(step), EVERY, 2) or []:
            if listed[0][0].startswith("3 "):
                times.update(text.split()[2] for text, _ in listed)
    assert [times[number] / 600 for number in "0123"] == pytest.approx([0.5] * 4, abs=0.07)


def test_a_passage_that_asks_for_its_translation_has_that_one_positive(sampler_of_kind: Any) -> None:
    sampler = sampler_of_kind("bitext")
    batch = sampler.batch(0)
    assert draw_positives(sampler, batch, EVERY, None) is None
    assert positive_counts(sampler, batch, None).tolist() == [1] * NUMBER
