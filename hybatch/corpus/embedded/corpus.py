"""The training part: every training fact in every pair of question and passage phrasings."""

from __future__ import annotations

from collections.abc import Iterator

from hybatch.corpus.embedded.split import choose, training_facts
from hybatch.corpus.embedded.templates import LANGUAGES, fill_passage, fill_question, load_kinds


def training_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (id, language, question, passage, passage_id), the languages of an id together; deterministic.

    An id names a fact and the numbers of its phrasings; under it stand translations of one another. `passage_id` names
    the fact alone: passages with an equal one state the same and must never be negatives of one another's questions.
    """
    kinds = load_kinds()
    for fact in training_facts():
        kind = kinds[fact.entity.kind]
        relation = kind.relations[fact.relation]
        for q in range(relation.num_questions):
            for p in range(relation.num_passages):
                identifier = f"{fact.key}/{q}{p}"
                aside = choose(identifier, kind.num_asides)
                for language in LANGUAGES:
                    entity = fact.entity.names[language]
                    question = fill_question(relation.questions[language][q], entity)
                    passage = fill_passage(
                        relation.passages[language][p],
                        entity=entity,
                        value=fact.values[language],
                        aside=kind.asides[language][aside],
                    )
                    yield identifier, language, question, passage.text, fact.key
