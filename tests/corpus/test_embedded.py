"""The corpus that comes with the package: enough facts, sound names and phrasings, a fair split, XQuAD-R's form."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from hybatch.corpus.embedded import LANGUAGES, training_rows, write_evaluation
from hybatch.corpus.embedded.evaluation import evaluation_paragraphs
from hybatch.corpus.embedded.facts import Fact, load_facts, read_table
from hybatch.corpus.embedded.split import held_out_facts, training_facts
from hybatch.corpus.embedded.templates import DATA, fill_passage, load_kinds
from hybatch.corpus.formats.squad import SquadFile, read_squad_file

SCRIPTS = {"ar": "ARABIC", "el": "GREEK", "hi": "DEVANAGARI", "ru": "CYRILLIC", "th": "THAI", "zh": "CJK"}
# Parts of these names are written in Latin letters in Greek and Thai texts, too.
LATIN_ACRONYMS = {"CFA"}
UNSPACED = ("th", "zh")


def is_word_character(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def mentions(text: str, name: str, language: str) -> bool:
    """Whether the name stands in the text, in spaced languages as whole words."""
    text, name = text.casefold(), name.casefold()
    start = text.find(name)
    while start >= 0:
        around = text[max(start - 1, 0) : start] + text[start + len(name) : start + len(name) + 1]
        numeric = name[-1].isdigit()
        if (language in UNSPACED and not numeric) or not any(map(is_word_character, around)):
            return True
        start = text.find(name, start + 1)
    return False


def states(text: str, fact: Fact, stated: Fact, language: str) -> bool:
    """Whether a passage on the fact `stated` could be read as stating `fact`.

    The name of the passage's own entity is taken out first where it is another one: "sea lion" does not name a lion.
    Entity and value must stand apart: without spaces between words, "Spanish language" alone would hold both.
    """
    if stated.entity != fact.entity:
        text = text.replace(stated.entity.names[language], " ")
    shorter, longer = sorted((fact.entity.names[language], fact.values[language]), key=len)
    return mentions(text, longer, language) and mentions(text.replace(longer, " "), shorter, language)


@pytest.fixture(scope="module")
def rows() -> list[tuple[str, str, str, str, str]]:
    return list(training_rows())


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("embedded")
    write_evaluation(directory)
    return directory


@pytest.fixture(scope="module")
def files(evaluation: Path) -> dict[str, SquadFile]:
    return {language: read_squad_file(evaluation / f"{language}.json") for language in LANGUAGES}


def stated_facts() -> list[Fact]:
    """The fact behind each candidate, in file order."""
    return [fact for _, facts in evaluation_paragraphs() for fact in facts]


def test_the_corpus_is_as_large_as_promised(files: dict[str, SquadFile]) -> None:
    facts = load_facts()
    assert len({fact.key for fact in facts}) == len(facts) >= 1100
    assert len({(fact.entity.kind, fact.relation) for fact in facts}) >= 20
    for language, file in files.items():
        assert len(file.questions) >= 200, language
        assert len(file.sentences) >= 500, language


def test_every_name_is_written_in_the_script_of_its_language() -> None:
    for path in sorted(DATA.glob("*/*.tsv")):
        for row in read_table(path).values():
            for language in LANGUAGES:
                name = " ".join(word for word in row[language].split() if word not in LATIN_ACRONYMS)
                if path.stem == "century":  # Roman numerals are Latin letters
                    name = name.translate(str.maketrans("", "", "IVX"))
                letters = [character for character in name if unicodedata.category(character).startswith("L")]
                script = SCRIPTS.get(language, "LATIN")
                wrong = [character for character in letters if not unicodedata.name(character).startswith(script)]
                assert letters, f"{path.stem}: {row['key']}: {language}: no letters in {row[language]!r}"
                assert not wrong, f"{path.stem}: {row['key']}: {language}: {wrong} in {row[language]!r}"
                assert row[language] == unicodedata.normalize("NFC", row[language].strip())


def test_templates_are_written_in_the_script_of_their_language() -> None:
    for kind in load_kinds().values():
        groups = [kind.asides]
        for relation in kind.relations.values():
            groups += [relation.questions, relation.passages]
        for group in groups:
            for language, templates in group.items():
                for template in templates:
                    literal = "".join(part for part, *_ in Formatter().parse(template))
                    letters = [character for character in literal if unicodedata.category(character).startswith("L")]
                    script = SCRIPTS.get(language, "LATIN")
                    wrong = [letter for letter in letters if not unicodedata.name(letter).startswith(script)]
                    assert not wrong, f"{kind.name}: {language}: {template!r}"


def test_phrasings_of_a_relation_differ_from_one_another() -> None:
    for kind in load_kinds().values():
        for relation in kind.relations.values():
            for language in LANGUAGES:
                assert len(set(relation.questions[language])) == relation.num_questions >= 3
                assert len(set(relation.passages[language])) == relation.num_passages >= 3
        for language in LANGUAGES:
            assert len(set(kind.asides[language])) == kind.num_asides >= 3


def test_every_phrasing_and_aside_occurs_in_training(rows: list[tuple[str, str, str, str, str]]) -> None:
    kinds = load_kinds()
    facts = {fact.key: fact for fact in training_facts()}
    questions: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    passages: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    asides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, language, question, passage, fact_key in rows:
        fact = facts[fact_key]
        kind = fact.entity.kind
        name, value = fact.entity.names[language], fact.values[language]
        questions[kind, fact.relation, language].add(question.replace(name, "{entity}"))
        [aside] = [aside for aside in kinds[kind].asides[language] if aside in passage]
        asides[kind, language].add(aside)
        for template in kinds[kind].relations[fact.relation].passages[language]:
            if fill_passage(template, entity=name, value=value, aside=aside).text == passage:
                passages[kind, fact.relation, language].add(template)
    for kind in kinds.values():
        for language in LANGUAGES:
            assert asides[kind.name, language] == set(kind.asides[language])
            for relation in kind.relations.values():
                assert questions[kind.name, relation.name, language] >= set(relation.questions[language])
                assert passages[kind.name, relation.name, language] == set(relation.passages[language])


def test_an_id_has_one_row_in_every_language(rows: list[tuple[str, str, str, str, str]]) -> None:
    languages = defaultdict(list)
    for identifier, language, question, passage, _ in rows:
        languages[identifier].append(language)
        assert question.strip() == question != ""
        assert passage.strip() == passage != ""
    assert set(map(tuple, languages.values())) == {LANGUAGES}


def test_rows_share_a_passage_id_exactly_where_they_state_the_same_fact(
    rows: list[tuple[str, str, str, str, str]],
) -> None:
    facts_of_passage = defaultdict(set)
    for identifier, _, _, passage, passage_id in rows:
        assert identifier.startswith(f"{passage_id}/")
        facts_of_passage[passage].add(passage_id)
    assert all(len(facts) == 1 for facts in facts_of_passage.values())
    assert {row[4] for row in rows} == {fact.key for fact in training_facts()}


def test_no_sentence_opens_with_a_small_letter(
    rows: list[tuple[str, str, str, str, str]], files: dict[str, SquadFile]
) -> None:
    texts = {(language, text) for _, language, question, passage, _ in rows for text in (question, passage)}
    for language, file in files.items():
        texts |= {(language, text) for text in (*file.sentences, *(question.text for question in file.questions))}
    wrong = [text for _, text in texts if next(character for character in text if character.isalnum()).islower()]
    assert not wrong


def test_evaluation_asks_for_untrained_facts_of_trained_entities_and_relations() -> None:
    held_out, trained = held_out_facts(), training_facts()
    assert not {fact.key for fact in held_out} & {fact.key for fact in trained}
    known = Counter((fact.entity.kind, fact.entity.key) for fact in trained)
    assert all(known[fact.entity.kind, fact.entity.key] >= 2 for fact in held_out)
    relations = Counter((fact.entity.kind, fact.relation) for fact in trained)
    assert all(relations[fact.entity.kind, fact.relation] >= 10 for fact in held_out)
    assert {(fact.entity.kind, fact.relation) for fact in held_out} == set(relations)


def test_no_training_passage_states_a_held_out_fact(rows: list[tuple[str, str, str, str, str]]) -> None:
    facts = {fact.key: fact for fact in training_facts()}
    held_out = held_out_facts()
    for language in LANGUAGES:
        names = [(fact, fact.entity.names[language].casefold()) for fact in held_out]
        for _, row_language, _, passage, key in rows:
            if row_language != language:
                continue
            lowered = passage.casefold()
            for fact, name in names:
                if name in lowered:
                    assert not states(passage, fact, facts[key], language), (fact.key, passage)


def test_no_candidate_is_an_unmarked_second_answer(files: dict[str, SquadFile]) -> None:
    candidates = stated_facts()
    keys = [fact.key for fact in candidates]
    for language, file in files.items():
        assert len(file.sentences) == len(candidates)
        for question, asked in zip(file.questions, held_out_facts(), strict=True):
            assert question.id == asked.key
            assert keys.count(asked.key) == 1
            others = [
                text
                for text, fact in zip(file.sentences, candidates, strict=True)
                if fact != asked and states(text, asked, fact, language)
            ]
            assert not others, (asked.key, others)


def test_asides_hold_no_value_of_any_relation_of_their_kind() -> None:
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fact in load_facts():
        for language in LANGUAGES:
            values[fact.entity.kind, language].add(fact.values[language])
    for kind in load_kinds().values():
        for language in LANGUAGES:
            for aside in kind.asides[language]:
                named = [value for value in values[kind.name, language] if mentions(aside, value, language)]
                assert not named, f"{kind.name}: {language}: {aside!r} holds {named}"


def test_every_question_has_both_kinds_of_hard_candidates() -> None:
    candidates = stated_facts()
    for asked in held_out_facts():
        same_entity = [fact for fact in candidates if fact.entity == asked.entity and fact.relation != asked.relation]
        same_relation = [
            fact
            for fact in candidates
            if fact.entity != asked.entity and (fact.entity.kind, fact.relation) == (asked.entity.kind, asked.relation)
        ]
        assert same_entity, asked.key
        assert same_relation, asked.key


def test_every_candidate_names_its_entity_and_value(files: dict[str, SquadFile]) -> None:
    for language, file in files.items():
        for text, fact in zip(file.sentences, stated_facts(), strict=True):
            assert fact.entity.names[language] in text
            assert fact.values[language] in text


def paragraphs_of(evaluation: Path, language: str) -> list[dict[str, Any]]:
    document = json.loads((evaluation / f"{language}.json").read_text(encoding="utf-8"))
    return [paragraph for article in document["data"] for paragraph in article["paragraphs"]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_breaks_and_answers_point_where_they_say(evaluation: Path, language: str) -> None:
    for paragraph, asked in zip(paragraphs_of(evaluation, language), held_out_facts(), strict=True):
        context, breaks = paragraph["context"], paragraph["sentence_breaks"]
        assert [context[start:end] for start, end in breaks] == paragraph["sentences"]
        assert breaks[0][0] == 0
        assert breaks[-1][1] == len(context)
        [question] = paragraph["qas"]
        [answer] = question["answers"]
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        assert context[start:end] == answer["text"] == asked.values[language]
        assert sum(first <= start and end <= last for first, last in breaks) == 1


def test_questions_are_parallel_and_their_sentences_stand_in_the_same_place(files: dict[str, SquadFile]) -> None:
    reference = files["en"]
    for language, file in files.items():
        assert [question.id for question in file.questions] == [question.id for question in reference.questions]
        assert [question.sentence for question in file.questions] == [
            question.sentence for question in reference.questions
        ]
        assert len(set(file.sentences)) == len(file.sentences), language


def test_no_text_of_the_evaluation_part_stands_in_training(
    rows: list[tuple[str, str, str, str, str]], files: dict[str, SquadFile]
) -> None:
    questions = {(language, question) for _, language, question, _, _ in rows}
    passages = {(language, passage) for _, language, _, passage, _ in rows}
    for language, file in files.items():
        assert not {(language, question.text) for question in file.questions} & questions
        positives = {(language, file.sentences[question.sentence or 0]) for question in file.questions}
        assert not positives & passages


def test_a_second_run_gives_the_same(
    rows: list[tuple[str, str, str, str, str]], evaluation: Path, tmp_path: Path
) -> None:
    assert list(training_rows()) == rows
    write_evaluation(tmp_path / "again")
    for language in LANGUAGES:
        assert (tmp_path / "again" / f"{language}.json").read_bytes() == (evaluation / f"{language}.json").read_bytes()


def test_a_table_with_a_missing_name_is_refused(tmp_path: Path) -> None:
    header = "\t".join(["key", *LANGUAGES])
    path = tmp_path / "river.tsv"
    path.write_text(header + "\n" + "\t".join(["nile", *["x"] * 10, " "]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"river\.tsv:2: no name in zh"):
        read_table(path)
