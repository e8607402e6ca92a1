"""`hybatch debias` from the command line: what it writes, what evaluations make of it, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from hybatch.cli import main as hybatch
from hybatch.corpus.index.keys import keys_of
from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.debias.command import main
from hybatch.evaluation.debiased_embeddings import DebiasedEmbeddings, read_removal
from hybatch.evaluation.embeddings import StoredEmbeddings
from hybatch.evaluation.encoding.encode import EncodedTask, encode_texts
from hybatch.evaluation.mteb.model import find_model
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.models import Encoder, Role
from tests.evaluation.conftest import WORDS
from tests.evaluation.synthetic import write_embeddings, write_jsonl

LANGUAGES = ("aa", "bb", "cc")


@pytest.fixture(scope="module")
def fitted_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parallel corpus whose texts are none of the task's."""
    folder = tmp_path_factory.mktemp("fit") / "training"
    listed = {
        language: [
            {"id": f"{i}", "question": f"{language * 2} why {word}?", "passage": f"{language} so {word} so {i}"}
            for i, word in enumerate(WORDS)
        ]
        for language in LANGUAGES
    }
    write_jsonl(folder, listed)
    return folder


def _debias(model: Path, corpus: Path, output: Path, *more: object) -> Path:
    chosen = ["--model", str(model), "--fit", str(corpus), "--output", str(output), "--device", "cpu"]
    assert main([*chosen, *map(str, more)]) == 0
    return output


def _evaluate(output: Path, *arguments: object) -> dict[str, Any]:
    assert hybatch(["evaluate", *map(str, arguments), "--output", str(output), "--device", "cpu"]) == 0
    return json.loads((output / "results.json").read_text())


@torch.no_grad()
def _vectors(encoder: Encoder, texts: Sequence[str], role: Role) -> np.ndarray:
    """float64, one text at a time: no code of the evaluation."""
    return np.concatenate([encoder(encoder.tokenize([text], role)).double().numpy() for text in texts])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _read(corpus: Path, field: str) -> dict[str, list[str]]:
    rows = {x: (corpus / f"{x}.jsonl").read_text().splitlines() for x in LANGUAGES}
    return {x: [json.loads(line)[field] for line in lines] for x, lines in rows.items()}


def _removed(method: str, rows: np.ndarray, means: dict[Role, dict[str, np.ndarray]], x: str, role: Role) -> np.ndarray:
    """The definition of each method on rows of one language and role."""
    common = {one: np.mean(list(of.values()), axis=0) for one, of in means.items()}
    if method == "centre":
        return _unit(rows - means[role][x])
    if method == "put back":
        return _unit(rows - means[role][x] + common[role])
    if method == "shift":
        return _unit(rows - means[role][x] + means[role]["bb"]) if role == "passage" else rows
    apart = np.stack([np.mean([of[x] - common[one] for one, of in means.items()], axis=0) for x in LANGUAGES])
    _, _, directions = np.linalg.svd(apart)
    return _unit(rows - rows @ directions[:2].T @ directions[:2])


METHODS = {
    "centre": ["--method", "centre"],
    "put back": ["--method", "centre", "--put-back"],
    "shift": ["--method", "shift", "--pivot", "bb"],
    "lir": ["--method", "lir"],
}


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_of_the_folder_is_that_of_the_vectors_that_the_definition_gives(
    method: str, data: Path, model: Path, fitted_on: Path, tmp_path: Path
) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", *METHODS[method])
    encoder = Encoder.load(model)
    means: dict[Role, dict[str, np.ndarray]] = {
        role: {x: _vectors(encoder, texts, role).mean(axis=0) for x, texts in _read(fitted_on, field).items()}
        for role, field in (("query", "question"), ("passage", "passage"))
    }
    task = load_task("parallel", data)
    assert isinstance(task, RetrievalTask)
    queries, candidates = (
        {
            x: _removed(method, _vectors(encoder, texts, role), means, x, role).astype(np.float32)
            for x, texts in tables.items()
        }
        for role, tables in (("query", task.queries), ("passage", task.candidates))
    )
    encoded = EncodedTask(Encoder.load(folder, languages_known=True), task, batch_size=4, progress=False)
    for x in LANGUAGES:
        np.testing.assert_allclose(encoded.embeddings("queries", x), queries[x], atol=1e-5)
        np.testing.assert_allclose(encoded.embeddings("candidates", x), candidates[x], atol=1e-5)
    ready = write_embeddings(tmp_path / "ready", queries, candidates)
    expected = _evaluate(tmp_path / "a", "--embeddings", ready, "--task", "parallel", "--data-dir", data)
    found = _evaluate(tmp_path / "b", "--model", folder, "--task", "parallel", "--data-dir", data)
    for figures in ("pairs", "multilingual", "summary"):
        assert found[figures] == expected[figures]
    saved = ("--save-embeddings", tmp_path / "saved")
    plain = _evaluate(tmp_path / "c", "--model", model, "--task", "parallel", "--data-dir", data, *saved)
    assert plain["summary"] != found["summary"]
    moved = ("--embeddings", tmp_path / "saved", "--debias", folder)
    again = _evaluate(tmp_path / "d", *moved, "--task", "parallel", "--data-dir", data)
    for figures in ("pairs", "multilingual", "summary", "debias"):
        assert again[figures] == found[figures]
    assert _evaluate(tmp_path / "d", *moved, "--task", "parallel", "--data-dir", data) == again
    plain = ("--embeddings", tmp_path / "saved", "--task", "parallel", "--data-dir", data, "--output", tmp_path / "d")
    assert hybatch(["evaluate", *map(str, plain)]) == 2
    assert "debias" not in plain
    assert found["debias"]["method"] == METHODS[method][1]
    assert found["debias"]["languages"] == list(LANGUAGES)
    assert found["debias"]["texts"] == {role: dict.fromkeys(LANGUAGES, 10) for role in ("query", "passage")}
    assert found["debias"]["corpora"][0]["name"] == "training"
    assert found["debias"]["task_texts_fitted"]["seen"] == 0


def test_sentence_transformers_reads_what_lir_wrote(model: Path, fitted_on: Path, tmp_path: Path) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "lir", "--directions", 1)
    theirs, ours = SentenceTransformer(str(folder), device="cpu"), Encoder.load(folder)
    before = Encoder.load(model)
    texts = ["one aa", "bb two", "three cc three"]
    np.testing.assert_allclose(theirs.encode_query(texts), _vectors(ours, texts, "query"), atol=1e-5)
    np.testing.assert_allclose(theirs.encode_document(texts), _vectors(ours, texts, "passage"), atol=1e-5)
    assert np.abs(_vectors(ours, texts, "query") - _vectors(before, texts, "query")).max() > 1e-3


def test_what_the_card_tells_people_to_run_moves_vectors_by_their_language(
    model: Path, fitted_on: Path, tmp_path: Path
) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "centre")
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(snippet.replace("MODEL", str(folder)).replace('"de"', '"aa"').replace('"en"', '"bb"'), names)
    encoder = Encoder.load(folder, languages_known=True)
    assert encoder.offsets is not None
    sides: list[tuple[Role, str, str, str]] = [("query", "aa", "question", "queries")]
    sides += [("passage", "bb", "passage", "passages")]
    for role, language, texts, found in sides:
        rows = _vectors(encoder, names[texts], role).astype(np.float32)
        np.testing.assert_allclose(names[found], encoder.offsets.moved(rows, language, role), atol=1e-5)


def test_equal_texts_tie_in_one_language_and_part_in_two(model: Path, fitted_on: Path, tmp_path: Path) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "centre")
    task = RetrievalTask(
        name="equal",
        languages=("aa", "bb"),
        queries={"aa": ["who?"], "bb": ["who?"]},
        candidates={"aa": ["Rome", "Paris", "Rome"], "bb": ["Rome"]},
        positives={"aa": [[0]], "bb": [[3]]},
    )
    encoded = EncodedTask(Encoder.load(folder, languages_known=True), task, batch_size=2, progress=False)
    assert encoded.num_distinct == 3
    rows = encoded.embeddings("candidates", "aa")
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(encoded.embeddings("candidates", "aa", np.array([2])), rows[2:])
    assert np.abs(rows[0] - encoded.embeddings("candidates", "bb")[0]).max() > 1e-3
    assert np.abs(encoded.embeddings("queries", "aa") - encoded.embeddings("queries", "bb")).max() > 1e-3


def test_languages_and_texts_that_the_removal_has_not_or_should_not_have_seen_are_told(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _debias(model, data, tmp_path / "without", "--method", "centre", "--languages", "aa", "bb")
    found = _evaluate(tmp_path / "a", "--model", folder, "--task", "parallel", "--data-dir", data)
    assert found["debias"]["unseen_languages"] == ["cc"]
    seen = found["debias"]["task_texts_fitted"]
    assert 0 < seen["seen"] < seen["of"]
    printed = capsys.readouterr().err
    assert "fitted on aa bb: texts in cc are moved by the mean of these languages' offsets" in printed
    assert (
        f"{seen['seen']} of the task's {seen['of']} distinct texts were among those that centre was fitted on"
        in printed
    )


def test_the_means_are_taken_over_the_same_examples_of_every_language(model: Path, data: Path, tmp_path: Path) -> None:
    _debias(model, data, tmp_path / "without", "--method", "centre", "--examples", 2)
    record = json.loads((tmp_path / "without" / "debias.json").read_text())
    assert record["texts"] == {role: dict.fromkeys(LANGUAGES, 2) for role in ("query", "passage")}
    words = [word for i, word in enumerate(WORDS) if all((i + shift) % 4 for shift in range(3))]
    texts = sorted({f"{x} {word}?" for x, word in product(LANGUAGES, words)})
    known = set(map(tuple, keys_of(texts).tolist()))
    kept = set(map(tuple, np.load(tmp_path / "without" / "debias_texts.npy").tolist()))
    assert len(known & kept) == 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "centre", "--languages", "aa"], "the language aa alone"),
        (
            ["--method", "centre", "--languages", "aa", "xx"],
            "--languages xx: not in --fit training, which has aa bb cc",
        ),
        (["--method", "lir", "--directions", "3"], "--directions 3: the means of 3 languages differ in 2 directions"),
        (["--method", "shift"], r"--pivot \(by default en\): not among"),
        (["--method", "centre", "--directions", "1"], "--directions: is of --method lir, not of centre"),
        (["--method", "shift", "--pivot", "aa", "--put-back"], "--put-back: is of --method centre, not of shift"),
        (["--method", "lir", "--model", "no/such/folder"], "no/such/folder: there is no such folder"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_loaded(
    more: list[str], message: str, model: Path, fitted_on: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match=message):
        _debias(model, fitted_on, tmp_path / "without", *more)
    assert not (tmp_path / "without").exists()


def test_a_folder_that_is_there_a_debiased_model_and_a_task_s_own_data_are_refused(
    model: Path, fitted_on: Path, tmp_path: Path
) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "lir")
    with pytest.raises(UserError, match="without: is there already"):
        _debias(model, fitted_on, folder, "--method", "centre")
    with pytest.raises(UserError, match="is debiased already"):
        _debias(folder, fitted_on, tmp_path / "twice", "--method", "centre")
    shutil.copytree(fitted_on, tmp_path / "xquad-r")
    with pytest.raises(UserError, match="is what task xquad-r evaluates on"):
        _debias(model, tmp_path / "xquad-r", tmp_path / "other", "--method", "centre")


@pytest.mark.parametrize("method", ["centre", "lir"])
def test_ready_embeddings_have_the_bits_of_their_own_row_alone(
    method: str, data: Path, model: Path, fitted_on: Path, tmp_path: Path
) -> None:
    layout = read_removal(_debias(model, fitted_on, tmp_path / "without", "--method", method))
    task = RetrievalTask(
        name="equal",
        languages=("aa",),
        queries={"aa": ["who?"]},
        candidates={"aa": ["Rome", "Paris", "Rome"]},
        positives={"aa": [[0]]},
    )
    width = Encoder.load(model).embedding_size
    rows = np.random.default_rng(0).standard_normal((3, width)).astype(np.float32)
    rows[2] = rows[0]
    ready = write_embeddings(tmp_path / "ready", {"aa": rows[:1]}, {"aa": rows})
    moved = DebiasedEmbeddings(StoredEmbeddings(ready, task), task, layout)
    candidates = moved.embeddings("candidates", "aa")
    np.testing.assert_array_equal(candidates[0], candidates[2])
    np.testing.assert_array_equal(candidates[1:2], moved.embeddings("candidates", "aa", np.array([1])))
    np.testing.assert_allclose(np.linalg.norm(candidates, axis=1), 1, atol=1e-6)


def test_a_removal_that_is_none_or_was_fitted_to_other_vectors_is_refused(
    data: Path, model: Path, fitted_on: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "lir")
    task = load_task("parallel", data)
    assert isinstance(task, RetrievalTask)
    tables = [
        {x: np.eye(len(t), 99, dtype=np.float32) * 0.5 + 0.1 for x, t in part.items()}
        for part in (task.queries, task.candidates)
    ]
    ready = write_embeddings(tmp_path / "ready", *tables)
    scored = ["--task", "parallel", "--data-dir", str(data)]
    for arguments, message in (
        (["--embeddings", str(ready), "--debias", str(folder)], "fitted to vectors of width"),
        (["--embeddings", str(ready), "--debias", str(model)], "holds no debias.json"),
        (["--embeddings", str(ready), "--debias", str(tmp_path / "none")], "there is no such folder"),
        (["--model", str(model), "--debias", str(folder)], "--debias: goes with --embeddings"),
    ):
        assert hybatch(["evaluate", *arguments, *scored]) == 2
        assert message in capsys.readouterr().err


def test_what_does_not_know_the_language_of_a_text_refuses_offsets(
    data: Path, model: Path, fitted_on: Path, tmp_path: Path
) -> None:
    folder = _debias(model, fitted_on, tmp_path / "without", "--method", "centre")
    encoder = Encoder.load(folder, languages_known=True)
    with pytest.raises(UserError, match="moved by the language of each text"):
        encode_texts(encoder, ["one"], "query", batch_size=1)
    mining = ["mine", "--model", str(folder), "--corpus", str(data), "--output", str(tmp_path / "mined")]
    assert hybatch([*mining, "--ranks", "1", "20"]) == 2
    with pytest.raises(UserError, match="which mteb does not tell a model"):
        find_model(str(folder))
    evaluation = ["evaluate", "--model", str(folder), "--task", "parallel", "--data-dir", str(data)]
    assert hybatch([*evaluation, "--query-prefix", "ask: "]) == 2


def test_both_sides_of_a_bitext_are_moved_by_the_language_they_are_written_in(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "training"
    rows = {x: [{"id": w, "question": f"{x} {w}?", "passage": f"{w} {x}"} for w in WORDS] for x in ("de", "en")}
    write_jsonl(corpus, rows)
    folder = _debias(model, corpus, tmp_path / "without", "--method", "centre")
    (tmp_path / "tatoeba").mkdir()
    for language in ("deu", "fra"):
        (tmp_path / "tatoeba" / f"tatoeba.{language}-eng.{language}").write_text("eins zwei\ndrei\n")
        (tmp_path / "tatoeba" / f"tatoeba.{language}-eng.eng").write_text("one two\nthree\n")
    task = load_task("tatoeba", tmp_path)
    encoder = Encoder.load(folder, languages_known=True)
    assert encoder.offsets is not None
    encoded = EncodedTask(encoder, task, batch_size=4, progress=False)
    offsets = encoder.offsets.offsets[0].double().numpy()
    for part, language, texts, offset in (
        ("queries", "deu", ["eins zwei", "drei"], offsets[0]),
        ("queries", "fra", ["eins zwei", "drei"], offsets.mean(axis=0)),
        ("candidates", "fra", ["one two", "three"], offsets[1]),
    ):
        expected = _unit(_vectors(encoder, texts, "query") + offset)
        np.testing.assert_allclose(encoded.embeddings(part, language), expected, atol=1e-5)
    found = _evaluate(tmp_path / "a", "--model", folder, "--task", "tatoeba", "--data-dir", tmp_path)
    assert found["debias"]["unseen_languages"] == ["fra"]
    assert "texts in fra are moved by the mean" in capsys.readouterr().err
