"""`hybatch evaluate --dimensions ... --vectors ...`: one encoding, and results of every combination."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.debias.command import main as debias
from hybatch.evaluation.embeddings import StoredEmbeddings
from hybatch.evaluation.results import dump
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.vectors.kinds import VECTOR_KINDS
from hybatch.evaluation.vectors.prefixes import PrefixEmbeddings
from tests.evaluation.oracle import largest_difference, oracle_results
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task, write_jsonl
from tests.evaluation.vectors.oracle import whole_vectors
from tests.processes import run_processes


@pytest.fixture(scope="module")
def embeddings(data: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "embeddings"
    evaluate([*_task(data), "--model", str(model), "--save-embeddings", str(folder)])
    return folder


def _task(data: Path) -> list[str]:
    return ["--task", "parallel", "--data-dir", str(data), "--device", "cpu"]


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_every_combination_has_results_of_its_own_from_one_encoding(
    data: Path, model: Path, embeddings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--dimensions", "16", "5", "--vectors", "float32", "int8", "binary"]
    outcome = evaluate([*_task(data), "--model", str(model), *asked, "--output", str(tmp_path / "out")])
    said = capsys.readouterr().out
    names = [f"{kind}-{dimensions}" for dimensions in (16, 5) for kind in ("float32", "int8", "binary")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    task = load_task("parallel", str(data), None)
    stored = StoredEmbeddings(embeddings, task)
    tables = [{x: stored.embeddings(part, x) for x in task.languages} for part in ("queries", "candidates")]
    for one, name in zip(outcome.evaluations, names, strict=True):
        kind, dimensions = name.split("-")
        assert _results(tmp_path / "out" / name) == one.results
        assert (tmp_path / "out" / name / "per_query.npz").exists()
        bits = {"float32": 32, "int8": 8, "binary": 1}[kind] * int(dimensions)
        assert one.results["vectors"] == {"kind": kind, "dimensions": int(dimensions), "bytes": (bits + 7) // 8}
        assert f"{one.results['summary']['multilingual']['map']:.4f}" in said
        if kind != "float32":
            difference, where = largest_difference(
                one.results, oracle_results(*whole_vectors(*tables, kind, int(dimensions)), task)
            )
            assert difference < 1e-12, (name, where)


def test_float32_in_full_width_has_the_figures_of_an_evaluation_without_the_options(
    data: Path, embeddings: Path, tmp_path: Path
) -> None:
    ready = [*_task(data), "--embeddings", str(embeddings)]
    plain = evaluate(ready).results
    for number, asked in enumerate((["--vectors", "float32"], ["--dimensions", "16"])):
        output = tmp_path / str(number)
        found = dict(evaluate([*ready, *asked, "--output", str(output)]).results)
        assert found.pop("vectors") == {"kind": "float32", "dimensions": 16, "bytes": 64}
        assert dump(found) == dump(plain)
        assert [path.name for path in output.iterdir()] == [("float32", "float32-16")[number]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dimensions", "17"], r"--dimensions 17: the vectors of \S+ have 16 dimensions"),
        (["--dimensions", "8", "17", "99"], r"--dimensions 17 99: the vectors"),
        (["--dimensions", "8", "8"], "--dimensions: 8 is given twice"),
        (["--dimensions", "0"], "--dimensions"),
        (["--dimensions", "7.5"], "--dimensions"),
        (["--vectors", "int8", "int8"], "--vectors: int8 is given twice"),
    ],
)
@pytest.mark.parametrize("kind", ["model", "embeddings"])
def test_dimensions_that_cannot_be_are_refused_before_anything_is_encoded(
    options: list[str],
    words: str,
    kind: str,
    data: Path,
    model: Path,
    embeddings: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hybatch.evaluation.source.EncodedTask", None)  # to encode would fail
    source = ["--model", str(model)] if kind == "model" else ["--embeddings", str(embeddings)]
    with pytest.raises(UserError, match=words):
        evaluate([*_task(data), *source, *options])


def test_a_kind_that_there_is_not_is_refused(data: Path, embeddings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate([*_task(data), "--embeddings", str(embeddings), "--vectors", "int4"])
    assert "invalid choice: 'int4'" in capsys.readouterr().err


def test_a_task_that_does_not_rank_every_setting_is_refused(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tatoeba"
    folder.mkdir()
    for name in ("deu-eng.deu", "deu-eng.eng"):
        (folder / f"tatoeba.{name}").write_text("a sentence\n")
    with pytest.raises(UserError, match=r"--vectors, --dimensions: .*tatoeba is of another kind"):
        evaluate(["--task", "tatoeba", "--data-dir", str(tmp_path), "--model", str(model), "--vectors", "int8"])


def test_vectors_that_are_compared_by_the_inner_product_are_refused(data: Path, embeddings: Path) -> None:
    with pytest.raises(UserError, match="is compared by the inner product"):
        evaluate([*_task(data), "--embeddings", str(embeddings), "--similarity", "dot", "--vectors", "int8"])


def test_results_of_other_vectors_are_not_replaced(data: Path, embeddings: Path, tmp_path: Path) -> None:
    ready = [*_task(data), "--embeddings", str(embeddings)]
    evaluate([*ready, "--vectors", "int8", "--output", str(tmp_path)])
    evaluate([*ready, "--vectors", "int8", "--output", str(tmp_path)])
    with pytest.raises(UserError, match=r"holds the results of vectors .*int8.*, not None"):
        evaluate([*ready, "--output", str(tmp_path / "int8")])


def _in_every_kind() -> list[str]:
    task = synthetic_task(5, ("aa", "bb", "cc", "en"), 30)
    rows = MemoryEmbeddings(*random_embeddings(task, 20))
    return [
        dump(score(kind.of(PrefixEmbeddings(rows, 9), task), task, model="", progress=False))
        for kind in VECTOR_KINDS.values()
    ]


def test_two_processes_give_the_bytes_of_one() -> None:
    [alone] = run_processes(_in_every_kind, 1)
    assert run_processes(_in_every_kind, 2) == [alone, alone]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "binary"])
def test_xquad_r_ranks_as_numpy_ranks_the_codes(kind: str, data_dir: Path) -> None:
    task = load_task("xquad-r", data_dir, ["en", "zh"])
    queries, candidates = random_embeddings(task, 40, seed=1)
    found = score(VECTOR_KINDS[kind].of(MemoryEmbeddings(queries, candidates), task), task, model="", progress=False)
    expected = oracle_results(*whole_vectors(queries, candidates, kind, 40), task)
    # Nothing but the summation order of the means may differ.
    difference, where = largest_difference(found, expected)
    assert difference < 1e-9, where
    assert found["ties"]["positives_tied"] == expected["ties"]["positives_tied"] > 0


def test_embeddings_are_debiased_before_they_are_cut(data: Path, model: Path, embeddings: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fit"
    rows = [{"id": str(i), "question": f"why {i}?", "passage": f"so {i}, so"} for i in range(6)]
    write_jsonl(fitted, {x: [{**row, "passage": f"{x} {row['passage']}"} for row in rows] for x in ("aa", "bb", "cc")})
    debiased = tmp_path / "debiased"
    options = ["--model", str(model), "--fit", str(fitted), "--output", str(debiased), "--device", "cpu"]
    assert debias([*options, "--method", "centre"]) == 0
    asked = ["--dimensions", "6", "--vectors", "int8"]
    moved = evaluate([*_task(data), "--embeddings", str(embeddings), "--debias", str(debiased), *asked]).results
    assert moved["debias"]["method"] == "centre"
    # The debiased encoder gives the same vectors within rounding, and its codes differ by no more.
    own = evaluate([*_task(data), "--model", str(debiased), *asked]).results
    assert moved["summary"]["multilingual"]["map"] == pytest.approx(own["summary"]["multilingual"]["map"], abs=0.02)
    plain = evaluate([*_task(data), "--embeddings", str(embeddings), *asked]).results
    assert moved["pairs"] != plain["pairs"]
