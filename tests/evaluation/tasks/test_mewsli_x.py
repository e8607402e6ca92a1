"""Mewsli-X in its publisher's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import write_lines

TEXT = "A headline\n\nThe flag of Nepal\nwas hoisted. It rained in Kathmandu."


def _article(language: str, mentions: list[tuple[str, str]]) -> dict[str, Any]:
    def span(text: str) -> dict[str, Any]:
        start = TEXT.index(text)
        return {"start": start, "end": start + len(text), "text": text}

    return {
        "context": {
            "document_id": f"{language}-1",
            "language": language,
            "text": TEXT,
            "sentence_spans": [
                span(s) for s in ("A headline", "The flag of Nepal\nwas hoisted.", "It rained in Kathmandu.")
            ],
        },
        "mentions": [
            {"example_id": f"{language}-{text}", "mention_span": span(text), "entity_id": entity}
            for text, entity in mentions
        ],
    }


def write_mewsli(data_dir: Path, articles: list[Any]) -> Path:
    """Articles, objects or lines, and thirty entities."""
    write_lines(data_dir / "mewsli-x" / "wikinews_mentions-test.jsonl", articles)
    entities = [
        {"entity_id": f"Q{i}", "title": f"Entity {i}", "description": f"It is {i}.", "description_language": "id"}
        for i in range(30)
    ]
    write_lines(data_dir / "mewsli-x" / "candidate_set_entities.jsonl", entities)
    return data_dir


def test_a_query_is_the_mention_and_its_sentence(tmp_path: Path) -> None:
    articles = [_article("de", [("Nepal", "Q3"), ("Kathmandu", "Q4")]), _article("ta", [("flag", "Q5")])]
    task = load_task("mewsli-x", write_mewsli(tmp_path, articles), ["de", "ta"])
    _, german = task.searches["de"]
    assert german.texts == ["Nepal: The flag of Nepal was hoisted.", "Kathmandu: It rained in Kathmandu."]
    assert german.relevant == [{3: 1}, {4: 1}]
    assert task.collections["entities"].read_some([5])[5].encoded == "Entity 5 It is 5."


def test_the_command_gives_average_precision_to_rank_20(model: Path, tmp_path: Path) -> None:
    write_mewsli(tmp_path, [_article("de", [("Nepal", "Q3"), ("Kathmandu", "Q4")])])
    arguments = ["--task", "mewsli-x", "--data-dir", str(tmp_path), "--model", str(model), "--languages", "de"]
    figures = evaluate([*arguments, "--save-run", str(tmp_path / "run")]).results["figures"]["de"]
    ranks = [int(line.split("\t")[2]) for line in (tmp_path / "run" / "de.ranks.tsv").read_text().splitlines()]
    assert figures["map@20"] == pytest.approx(sum(1 / r for r in ranks if r <= 20) / 2)
    assert figures["map"] == pytest.approx(sum(1 / r for r in ranks) / 2)


def test_articles_whose_text_was_not_restored_are_answered_with_the_script(tmp_path: Path) -> None:
    article = _article("de", [("Nepal", "Q3")])
    article["context"]["text"] = ""
    with pytest.raises(UserError, match=r"test\.jsonl:1: the article's text is empty; run the publisher's"):
        load_task("mewsli-x", write_mewsli(tmp_path, [article]), ["de"])


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test\.jsonl:1: not an article with its mentions"):
        load_task("mewsli-x", write_mewsli(tmp_path, [{"context": {}}]), ["de"])


def test_a_mention_that_is_cut_inside_a_character_is_named(tmp_path: Path) -> None:
    article = _article("de", [("Nepal", "Q3")])
    article["mentions"][0]["mention_span"]["text"] = "Nep\udc42"
    with pytest.raises(UserError, match=r"test\.jsonl:1: the mention or its sentence holds half a surrogate pair"):
        load_task("mewsli-x", write_mewsli(tmp_path, [json.dumps(article)]), ["de"])
