"""MIRACL in its publisher's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import Fake, fake, write_lines


def write_miracl(data_dir: Path, language: str, data: Fake, files: int = 3) -> Path:
    """Topics, qrels and a corpus cut into `files` archives."""
    folder = data_dir / "miracl"
    version = f"miracl-v1.0-{language}"
    write_lines(folder / version / "topics" / f"topics.{version}-dev.tsv", map("\t".join, data.queries.items()))
    rows = [f"{q}\tQ0\t{d}\t{g}" for q, judged in data.grades.items() for d, g in judged.items()]
    write_lines(folder / version / "qrels" / f"qrels.{version}-dev.tsv", rows)
    passages = [{"docid": i, "title": "Title", "text": text} for i, text in data.passages.items()]
    size = -(-len(passages) // files)
    for number in range(files):
        part = passages[number * size : (number + 1) * size]
        write_lines(folder / f"miracl-corpus-v1.0-{language}" / f"docs-{number}.jsonl.gz", part)
    return data_dir


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    data = fake(num_passages=24)
    write_miracl(tmp_path, "sw", data, files=12)
    task = load_task("miracl", tmp_path, ["sw"])
    passages = task.collections["sw"]
    assert passages.find(list(data.passages)).tolist() == list(range(24))
    assert passages.read_some([23])[23].encoded == f"Title {data.passages['d23']}"
    assert task.searches["sw"][1].ids == list(data.queries)


def test_an_incomplete_corpus_is_refused(tmp_path: Path) -> None:
    write_miracl(tmp_path, "sw", fake())
    (tmp_path / "miracl" / "miracl-corpus-v1.0-sw" / "docs-1.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"docs-1\.jsonl\.gz is missing"):
        load_task("miracl", tmp_path, ["sw"])


def test_the_command_gives_figures_per_language_and_their_mean(model: Path, tmp_path: Path) -> None:
    for seed, language in enumerate(("sw", "yo")):
        write_miracl(tmp_path, language, fake(seed=seed))
    arguments = ["--task", "miracl", "--data-dir", str(tmp_path), "--model", str(model), "--languages", "yo", "sw"]
    results = evaluate([*arguments, "--index-dtype", "float16"]).results
    assert list(results["figures"]) == ["sw", "yo"]
    figures = results["figures"].values()
    for metric in ("ndcg@10", "recall@100", "map"):
        assert results["summary"]["mean"][metric] == pytest.approx(sum(row[metric] for row in figures) / 2)
