"""A test collection of one's own in BEIR's layout, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.results import read_any_results
from hybatch.reporting.evaluate import main
from tests.evaluation.collection.fakes import fake, write_beir, write_lines


def test_the_command_writes_figures_run_and_ranks_and_encodes_once(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_beir(tmp_path / "data", fake())
    arguments = ["--task", "beir-like", "--data-dir", str(data), "--model", str(model), "--index", str(tmp_path / "i")]
    outputs = [tmp_path / name for name in ("a", "b")]
    assert main([*arguments, "--output", str(outputs[0]), "--save-run", str(tmp_path / "run")]) == 0
    assert "ndcg@10" in capsys.readouterr().out
    assert main([*arguments, "--output", str(outputs[1])]) == 0
    assert (outputs[0] / "results.json").read_bytes() == (outputs[1] / "results.json").read_bytes()
    assert '"passages_encoded": 0' in (outputs[1] / "timings.json").read_text()
    results = read_any_results(outputs[0] / "results.json")
    assert set(results["figures"]["data"]) >= {"ndcg@10", "recall@100", "mrr@10", "map"}
    assert results["figures"]["data"]["recall@100"] == 1.0
    assert len(list((tmp_path / "run").iterdir())) == 2


@pytest.mark.parametrize(("passage", "query"), [("d 1", "q1"), ("", "q1"), ("d\u00a01", "q1"), ("d1", "q 1")])
def test_ids_that_would_break_a_runs_columns_are_named_before_anything_is_encoded(
    tmp_path: Path, passage: str, query: str
) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"_id": "d", "text": "a"}, {"_id": passage, "text": "b"}])
    write_lines(tmp_path / "queries.jsonl", [{"_id": query, "text": "a?"}])
    write_lines(tmp_path / "qrels.tsv", [f"{query}\td\t1"])
    arguments = ["--task", "beir-like", "--data-dir", str(tmp_path), "--model", "no/such", "--save-run"]
    named = r"corpus\.jsonl:2: id" if query == "q1" else "query id 'q 1'"
    with pytest.raises(UserError, match=f"--save-run: .*{named}.* is empty or holds white space"):
        main([*arguments, str(tmp_path / "run")])
    with pytest.raises(UserError, match="no/such"):
        main(arguments[:-1])


def test_subfolders_are_collections_of_their_own(tmp_path: Path) -> None:
    for name in ("de", "fr"):
        write_beir(tmp_path / name, fake())
    assert load_task("beir-like", tmp_path).languages == ("de", "fr")
    assert load_task("beir-like", tmp_path, ["fr"]).languages == ("fr",)


def test_gzipped_files_and_other_judgement_files_are_found(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl.gz", [{"_id": "d", "title": "A", "text": "b"}])
    write_lines(tmp_path / "queries.jsonl.gz", [{"_id": 7, "text": "a?"}])
    write_lines(tmp_path / "qrels.tsv", ["7\t0\td\t1"])
    task = load_task("beir-like", tmp_path)
    assert task.searches[tmp_path.name][1].relevant == [{0: 1}]


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    write_lines(tmp_path / "corpus.jsonl", [{"_id": "d", "title": "A", "text": "b"}])
    write_lines(tmp_path / "queries.jsonl", [{"_id": "q", "text": "a?"}])
    for name, text in (("queries.jsonl", '{"_id": "q", "text": "a?"}\n'), ("qrels.tsv", "q\t0\td\t1\n")):
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert load_task("beir-like", tmp_path).searches[tmp_path.name][1].relevant == [{0: 1}]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no corpus\.jsonl"):
        load_task("beir-like", tmp_path)
    write_lines(tmp_path / "corpus.jsonl", [{"_id": "d", "text": "b"}])
    with pytest.raises(UserError, match=r"holds none of queries\.jsonl"):
        load_task("beir-like", tmp_path)


def test_ready_embeddings_are_refused_before_any_work(tmp_path: Path) -> None:
    data = write_beir(tmp_path / "data", fake())
    with pytest.raises(UserError, match="encodes its passages into shards"):
        main(["--task", "beir-like", "--data-dir", str(data), "--embeddings", str(tmp_path)])
