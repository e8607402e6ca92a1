"""The evaluation part in XQuAD-R's form: `<lang>.json`, SQuAD with the sentences of each paragraph marked.

An article holds one kind, a paragraph the sentences about one entity: the held-out fact that its question asks for and
one or two facts of the training part, which make candidates on the same entity with another relation. A candidate on
the same relation with another entity stands in other paragraphs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from hybatch.atomic import atomic_file
from hybatch.corpus.embedded.facts import Fact
from hybatch.corpus.embedded.split import choose, held_out_facts, training_facts
from hybatch.corpus.embedded.templates import LANGUAGES, Statement, fill_passage, fill_question, load_kinds

# Chinese sets no space between sentences; the others do.
SENTENCE_GAP = {language: "" if language == "zh" else " " for language in LANGUAGES}


def write_evaluation(directory: Path) -> None:
    """Write `<lang>.json` for every language; a question has the same id in all of them.

    `sentence_breaks` are [start, end) in code points of the paragraph's context, `answer_start` likewise; the answer is
    the value's name within the only sentence that states the fact.

    Raises:
        OSError: the directory cannot be written.
    """
    paragraphs = list(evaluation_paragraphs())
    for language in LANGUAGES:
        articles = [
            {"title": kind, "paragraphs": [_paragraph(asked, facts, language) for asked, facts in group]}
            for kind, group in groupby(paragraphs, key=lambda paragraph: paragraph[0].entity.kind)
        ]
        with atomic_file(Path(directory) / f"{language}.json") as file:
            json.dump({"data": articles, "version": "1.1"}, file, ensure_ascii=False, indent=1)


def evaluation_paragraphs() -> Iterator[tuple[Fact, list[Fact]]]:
    """Yield per paragraph the held-out fact it is asked for and the facts it states, in the order of its sentences."""
    others = {key: list(facts) for key, facts in groupby(training_facts(), key=_entity_key)}
    for number, asked in enumerate(held_out_facts()):
        known = others[_entity_key(asked)]
        first = choose(f"{asked.key}/others", len(known))
        facts = [known[(first + step) % len(known)] for step in range(1 + number % 2)]
        facts.insert(choose(f"{asked.key}/place", len(facts) + 1), asked)
        yield asked, facts


def _entity_key(fact: Fact) -> tuple[str, str]:
    return fact.entity.kind, fact.entity.key


def _paragraph(asked: Fact, facts: list[Fact], language: str) -> dict[str, Any]:
    context, breaks, answer_start = "", [], -1
    for fact in facts:
        statement = _state(fact, language)
        if context:
            context += SENTENCE_GAP[language]
        if fact is asked:
            answer_start = len(context) + statement.value_start
        breaks.append([len(context), len(context) + len(statement.text)])
        context += statement.text
    templates = load_kinds()[asked.entity.kind].relations[asked.relation].questions[language]
    template = templates[choose(f"{asked.key}/question", len(templates))]
    return {
        "context": context,
        "qas": [
            {
                "answers": [{"answer_start": answer_start, "text": asked.values[language]}],
                "id": asked.key,
                "question": fill_question(template, asked.entity.names[language]),
            }
        ],
        "sentence_breaks": breaks,
        "sentences": [context[start:end] for start, end in breaks],
    }


def _state(fact: Fact, language: str) -> Statement:
    """State a fact; phrasing and aside depend on the fact alone, so that the languages stay parallel."""
    kind = load_kinds()[fact.entity.kind]
    passages = kind.relations[fact.relation].passages[language]
    return fill_passage(
        passages[choose(f"{fact.key}/passage", len(passages))],
        entity=fact.entity.names[language],
        value=fact.values[language],
        aside=kind.asides[language][choose(f"{fact.key}/aside", kind.num_asides)],
    )
