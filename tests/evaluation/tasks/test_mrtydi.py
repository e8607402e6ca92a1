"""Mr. TyDi in its publisher's layout."""

from __future__ import annotations

from pathlib import Path

from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import Fake, fake, write_lines


def write_mrtydi(data_dir: Path, language: str, data: Fake) -> Path:
    """The IR files of the test split, and the corpus beside them."""
    folder = data_dir / "mrtydi" / f"mrtydi-v1.1-{language}"
    write_lines(folder / "ir-format-data" / "topics.test.txt", map("\t".join, data.queries.items()))
    rows = [f"{q}\tQ0\t{d}\t{g}" for q, judged in data.grades.items() for d, g in judged.items()]
    write_lines(folder / "ir-format-data" / "qrels.test.txt", rows)
    write_lines(
        folder / "corpus.jsonl.gz", ({"docid": i, "title": "T", "text": text} for i, text in data.passages.items())
    )
    return data_dir


def test_languages_go_by_their_codes_and_the_reciprocal_rank_to_100(model: Path, tmp_path: Path) -> None:
    write_mrtydi(tmp_path, "telugu", fake())
    task = load_task("mrtydi", tmp_path, ["te"])
    assert len(task.collections["te"]) == 60
    assert task.collections["te"].read_some([5])[5].encoded.startswith("T ")
    arguments = ["--task", "mrtydi", "--data-dir", str(tmp_path), "--model", str(model), "--languages", "te"]
    figures = evaluate(arguments).results["figures"]["te"]
    assert 0 < figures["mrr@100"] <= 1
    assert figures["recall@100"] == 1.0
