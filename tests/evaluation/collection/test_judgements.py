"""Judgements and queries in the field's files, and what is said where they do not fit the collection."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.collection.judgements import (
    join,
    read_judgements,
    read_query_objects,
    read_topics,
    refuse_unknown,
)
from hybatch.evaluation.collection.passages import Passages, json_lines
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import Fake, fake, fake_passages, write_beir, write_lines


@pytest.mark.parametrize(
    "lines",
    [
        ["query-id\tcorpus-id\tscore", "q 1\td 1\t2", "q 1\td2\t0"],
        ["q 1\t0\td 1\t2", "", "q 1\t0\td2\t0"],
    ],
    ids=["BEIR", "trec_eval with tabs"],
)
def test_both_forms_are_read(tmp_path: Path, lines: list[str]) -> None:
    assert read_judgements(write_lines(tmp_path / "qrels", lines)) == {"q 1": {"d 1": 2, "d2": 0}}


def test_grades_may_be_written_as_a_table_with_empty_cells_writes_them(tmp_path: Path) -> None:
    lines = ["q1\td1\t1.0", "q1\td2\t0", "q1\td3\t-1.0", "q1\td1\t1"]
    assert read_judgements(write_lines(tmp_path / "qrels", lines)) == {"q1": {"d1": 1, "d2": 0, "d3": -1}}


def test_the_header_may_stand_below_blank_lines(tmp_path: Path) -> None:
    lines = ["", "  ", "query-id\tcorpus-id\tscore", "q1\td1\t1"]
    assert read_judgements(write_lines(tmp_path / "qrels", lines)) == {"q1": {"d1": 1}}


def test_trec_evals_form_may_have_blanks_between(tmp_path: Path) -> None:
    assert read_judgements(write_lines(tmp_path / "qrels", ["q1 Q0  d1 1"])) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["q d"], "qrels:1: 2 columns"),
        (["q 0 d 1", "q 0 d high"], "qrels:2: grade 'high'"),
        (["q 0 d 0.5", "q 0 e 1"], "qrels:1: grade '0.5' is not a whole number"),
        (["q 0 d nan", "q 0 e 1"], "qrels:1: grade 'nan' is not a whole number"),
        (["query 0 passage grade", "query 0 passage grade"], "qrels:2: grade 'grade'"),
        (["q 0 d 1", "q 0 d 0"], "qrels:2: query q and passage d have grade 1 before, 0"),
        ([], "no judgement"),
    ],
)
def test_lines_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_judgements(write_lines(tmp_path / "qrels", lines))


def test_topics_with_a_repeated_id_or_without_a_tab_are_refused(tmp_path: Path) -> None:
    assert read_topics(write_lines(tmp_path / "t", ["1\twhat is\ta tab"])) == {"1": "what is\ta tab"}
    with pytest.raises(UserError, match="t:2: query id '1' stands before"):
        read_topics(write_lines(tmp_path / "t", ["1\ta", "1\tb"]))
    with pytest.raises(UserError, match="t:1: expected a query's id"):
        read_topics(write_lines(tmp_path / "t", ["1 a"]))
    with pytest.raises(UserError, match="q:2: query id '1' stands before"):
        read_query_objects(write_lines(tmp_path / "q", [{"_id": 1, "text": "a"}, {"_id": "1", "text": "b"}]))


def _join(tmp_path: Path, unknown: int, known: int = 400):
    data = Fake({f"d{i}": f"t{i}" for i in range(known)}, {"q": "?", "idle": "?", "empty": "?"}, {})
    judgements = {"q": {f"d{i}": i % 2 for i in range(known)}, "empty": {"d1": 0}}
    judgements["q"] |= {f"x{i}": 1 for i in range(unknown)}
    return join(data.queries, judgements, fake_passages(tmp_path, data), tmp_path / "qrels.tsv")


def test_few_unknown_passages_are_left_out_counted_and_listed(tmp_path: Path) -> None:
    joined = _join(tmp_path, unknown=4)
    assert joined.ids == ["q", "empty"]
    assert joined.relevant == [dict.fromkeys(range(1, 400, 2), 1), {}]
    assert joined.unknown == (4, 405, ("passage x0", "passage x1", "passage x2", "passage x3"))


def test_more_than_one_in_a_hundred_is_an_error_that_lists_them(tmp_path: Path) -> None:
    refuse_unknown(_join(tmp_path / "few", unknown=4))
    with pytest.raises(UserError, match=r"qrels\.tsv: 5 of 406 judgements name .*: passage x0, passage x1"):
        refuse_unknown(_join(tmp_path / "many", unknown=5))


def test_judgements_of_a_part_of_the_queries_can_be_measured_when_told_so(model: Path, tmp_path: Path) -> None:
    data = fake(num_queries=20)
    part = data._replace(queries={q: text for q, text in data.queries.items() if int(q[1:]) % 4 == 0})
    whole, cut = write_beir(tmp_path / "whole", data), write_beir(tmp_path / "cut", part)
    arguments = ["--model", str(model), "--task", "beir-like", "--index", str(tmp_path / "i"), "--data-dir"]
    with pytest.raises(UserError, match=r"query q1, .*--unknown-judgements leave-out"):
        evaluate([*arguments, str(cut)])
    results = evaluate([*arguments, str(cut), "--unknown-judgements", "leave-out", "--save-run", str(tmp_path / "a")])
    evaluate([*arguments, str(whole), "--save-run", str(tmp_path / "b")])
    counted = results.results["unknown_judgements"]["cut"]
    judged = sum(map(len, data.grades.values()))
    assert (counted["left_out"], counted["of"]) == (judged - sum(len(data.grades[q]) for q in part.queries), judged)
    assert results.results["num_queries"] == {"cut": 5}
    ranks = (tmp_path / "a" / "cut.ranks.tsv").read_text().splitlines()
    assert ranks == [
        line
        for line in (tmp_path / "b" / "whole.ranks.tsv").read_text().splitlines()
        if line.split()[0] in part.queries
    ]


def test_half_a_surrogate_pair_is_refused_where_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"q:2: field 'text' holds half a surrogate pair \('.udc00'\)"):
        read_query_objects(
            write_lines(tmp_path / "q", [{"_id": "1", "text": "a 😀"}, '{"_id": "2", "text": "\\udc00"}'])
        )
    with pytest.raises(UserError, match=r"c:1: field '_id' holds half a surrogate pair"):
        Passages("c", [write_lines(tmp_path / "c", ['{"_id": "d\\ud812", "text": "b"}'])], json_lines("_id"))
