"""`hybatch evaluate` from the command line: what it writes, and what it refuses before any encoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.cli import main as hybatch
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.embeddings import StoredEmbeddings
from hybatch.evaluation.results import dump, read_any_results
from hybatch.evaluation.settings.scoring import score
from hybatch.reporting.compare import main as compare
from tests.evaluation.oracle import largest_difference, oracle_results
from tests.evaluation.synthetic import random_embeddings, write_embeddings


def _arguments(data: Path, *more: object) -> list[str]:
    return ["--task", "parallel", "--data-dir", str(data), *map(str, more)]


def test_a_model_is_scored_and_its_saved_embeddings_give_the_same_figures(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    first = evaluate(_arguments(data, "--model", model, "--output", tmp_path / "a", "--save-embeddings", saved))
    second = evaluate(_arguments(data, "--embeddings", saved, "--output", tmp_path / "b"))
    assert first.is_main_process
    assert read_any_results(tmp_path / "a" / "results.json") == first.results
    assert {**first.results, "model": ""} == {**second.results, "model": ""}
    queries, candidates = (
        {x: np.load(saved / f"{part}.{x}.npy") for x in ("aa", "bb", "cc")} for part in ("queries", "candidates")
    )
    expected = oracle_results(queries, candidates, load_task("parallel", data))
    assert largest_difference(first.results, expected)[0] < 1e-9
    printed = capsys.readouterr().out
    assert "multilingual" in printed
    assert f"{first.results['summary']['monolingual']['map']:.4f}" in printed
    assert "language bias" in printed
    assert f"{first.results['language_bias']['summary']['multilingual']['last_place']:.4f}" in printed


def test_languages_can_be_chosen(data: Path, tmp_path: Path) -> None:
    task = load_task("parallel", data, ["aa", "cc"])
    folder = write_embeddings(tmp_path, *random_embeddings(task, 4))
    outcome = evaluate(_arguments(data, "--embeddings", folder, "--languages", "cc", "aa"))
    assert outcome.results["languages"] == ["aa", "cc"]
    assert outcome.evaluations[0].folder is None


def test_brackets_in_a_path_are_shown_and_end_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_embeddings(tmp_path / "[" / "b]", *random_embeddings(load_task("parallel", data), 4))
    assert hybatch(["evaluate", *_arguments(data, "--embeddings", folder, "--output", tmp_path / "out")]) == 0
    assert "[/b]" in capsys.readouterr().out
    assert (tmp_path / "out" / "heatmap.png").is_file()


def test_similarity_can_be_forced(data: Path, tmp_path: Path) -> None:
    task = load_task("parallel", data)
    queries, candidates = random_embeddings(task, 4)
    scaled = {x: rows * np.linspace(0.5, 3, len(rows), dtype=np.float32)[:, None] for x, rows in candidates.items()}
    folder = write_embeddings(tmp_path, queries, scaled)
    outcome = evaluate(_arguments(data, "--embeddings", folder, "--similarity", "dot"))
    assert outcome.results["similarity"] == "dot"
    evaluate(_arguments(data, "--embeddings", folder, "--similarity", "dot", "--output", tmp_path / "out"))
    with pytest.raises(UserError, match=r"similarity 'dot', not 'cosine'.*--overwrite"):
        evaluate(_arguments(data, "--embeddings", folder, "--similarity", "cosine", "--output", tmp_path / "out"))
    assert largest_difference(outcome.results, oracle_results(queries, scaled, task))[0] < 1e-9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--languages", "xx"], "--languages xx"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--backend", "gpu"], "--backend gpu.*no such backend"),
        (["--similarity", "dot"], "--similarity: goes with --embeddings"),
        (["--output", "FILE"], "is a file"),
        (["--save-embeddings", "FOREIGN"], "--save-embeddings .*holds notes.txt"),
    ],
)
def test_bad_options_are_refused_before_any_encoding(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    places = {"FILE": str(tmp_path / "file"), "FOREIGN": str(tmp_path / "foreign")}

    def encode(*_: object, **__: object) -> None:
        raise AssertionError("encoding began")

    monkeypatch.setattr("hybatch.evaluation.encoding.encode.encode_distinct", encode)
    with pytest.raises(UserError, match=message):
        evaluate(_arguments(data, "--model", model, *(places.get(word, word) for word in more)))


def test_saving_embeddings_that_were_given_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to save"):
        evaluate(_arguments(data, "--embeddings", tmp_path, "--save-embeddings", tmp_path / "copy"))


def test_a_model_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        evaluate(_arguments(data, "--model", tmp_path / "nowhere"))


def test_results_of_another_model_are_kept(data: Path, model: Path, tmp_path: Path) -> None:
    task = load_task("parallel", data)
    folder = write_embeddings(tmp_path / "e", *random_embeddings(task, 4))
    evaluate(_arguments(data, "--embeddings", folder, "--output", tmp_path / "out"))
    before = (tmp_path / "out" / "results.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        evaluate(_arguments(data, "--model", model, "--output", tmp_path / "out"))
    assert (tmp_path / "out" / "results.json").read_bytes() == before


@pytest.mark.parametrize("argv", [[], ["--model", "m"], ["--task", "nothing", "--model", "m"]])
def test_an_incomplete_command_line_exits_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate(argv)
    assert caught.value.code == 2


def test_the_command_gives_what_the_library_gives(data: Path, tmp_path: Path) -> None:
    task = load_task("parallel", data)
    folder = write_embeddings(tmp_path, *random_embeddings(task, 4))
    outcome = evaluate(_arguments(data, "--embeddings", folder))
    again = score(StoredEmbeddings(folder, task), task, model=str(folder), progress=False)
    assert dump(outcome.results) == dump({**again, "data_digest": task.digest()})


def test_results_of_other_data_are_kept_and_not_compared(data: Path, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in data.glob("*.jsonl"):
        (other / path.name).write_text(path.read_text().replace(" is ", " was "))
    out = [tmp_path / name for name in ("a", "b")]
    for folder, output in zip((data, other), out, strict=True):
        evaluate(_arguments(folder, "--model", model, "--output", output))
    with pytest.raises(UserError, match=r"holds the results of data_digest .*--overwrite"):
        evaluate(_arguments(other, "--model", model, "--output", out[0]))
    evaluate(_arguments(data, "--model", model, "--output", out[0]))
    with pytest.raises(UserError, match=r"data_digest .*over the same data"):
        compare([str(one) for one in out])
