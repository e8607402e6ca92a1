"""Mewsli-X of XTREME-R (arXiv 2104.07412): mentions in news of 11 languages, entities described in 50.

A query is the mention, a colon, and the sentence that holds it; a candidate is the entity's title and description.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.collection.judgements import Judgements, join
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.files import read_objects, refuse_half_a_pair

LANGUAGES = ("ar", "de", "en", "es", "fa", "ja", "pl", "ro", "ta", "tr", "uk")


def _load(data_dir: Path, languages: Sequence[str]) -> CollectionTask:
    folder = data_dir / "mewsli-x"
    mentions, entities = folder / "wikinews_mentions-test.jsonl", folder / "candidate_set_entities.jsonl"
    if missing := [path for path in (mentions, entities) if not path.is_file()]:
        raise MEWSLI_X.missing(missing)
    queries: dict[str, dict[str, str]] = {language: {} for language in languages}
    judgements: dict[str, Judgements] = {language: {} for language in languages}
    for number, row in read_objects(mentions, '{"context": {...}, "mentions": [...]}'):
        for language, identifier, text, entity in _mentions(row, mentions, number):
            if language in queries:
                if identifier in queries[language]:
                    raise UserError(f"{mentions}:{number}: mention id {identifier!r} stands before too")
                queries[language][identifier] = text
                judgements[language][identifier] = {entity: 1}
    if empty := [language for language in languages if not queries[language]]:
        raise UserError(f"{mentions}: no mention in {', '.join(empty)}")
    passages = Passages("entities", [entities], json_lines("entity_id", text="description"))
    searches = {x: ("entities", join(queries[x], judgements[x], passages, mentions)) for x in languages}
    return CollectionTask("mewsli-x", {"entities": passages}, searches, ("map@20", "recall@20"), 20)


def _mentions(row: dict[str, Any], path: Path, number: int) -> Iterator[tuple[str, str, str, str]]:
    """(language, id, query text, entity) of the mentions of one article."""
    try:
        context = row["context"]
        text, spans = context["text"], [_span(span) for span in context["sentence_spans"]]
        for mention in row["mentions"]:
            start, end = _span(mention["mention_span"])
            if not text:
                raise UserError(f"{path}:{number}: the article's text is empty; run the publisher's get-mewsli-x.sh")
            inside = [text[a:b] for a, b in spans if a < end and start < b]
            sentence = " ".join(" ".join(inside or [text[start:end]]).split())
            query = f"{mention['mention_span']['text']}: {sentence}"
            refuse_half_a_pair(query, "the mention or its sentence", path, number)
            yield context["language"], mention["example_id"], query, mention["entity_id"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}:{number}: not an article with its mentions ({error!r})") from error


def _span(span: Any) -> tuple[int, int]:
    return (span["start"], span["end"]) if isinstance(span, dict) else (span[0], span[1])


MEWSLI_X = TaskEntry(
    name="mewsli-x",
    summary="XTREME-R's Mewsli-X, test mentions of 11 languages, against a million entities described in 50",
    languages=LANGUAGES,
    settings="cross-lingual, one pool of entities",
    metric="mAP@20, recall@20, exact mAP",
    source="XTREME-R, arXiv 2104.07412",
    licence="Apache-2.0",
    layout="mewsli-x/wikinews_mentions-test.jsonl and mewsli-x/candidate_set_entities.jsonl",
    download=(
        "https://github.com/google-research/google-research/tree/master/dense_representations_for_entity_retrieval/mel"
    ),
    load=_load,
)
