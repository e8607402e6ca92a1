"""--precision and --compile say how the encoder runs; results name a precision other than float32."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from tests.faked_processor import fake_processor


def _embeddings(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))])


def test_results_name_the_precision_and_its_embeddings_are_near_those_of_float32(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_processor(monkeypatch, "avx512_bf16")  # slower elsewhere, and the same
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model", str(model)]
    results = {}
    for name in ("float32", "bf16"):
        saved = ["--save-embeddings", str(tmp_path / name), "--output", str(tmp_path / "out" / name)]
        results[name] = evaluate([*arguments, *saved, "--precision", name]).results
    assert "precision" not in results["float32"]
    assert results["bf16"]["precision"] == "bf16"
    exact, rounded = _embeddings(tmp_path / "float32"), _embeddings(tmp_path / "bf16")
    assert 1e-5 < np.abs(exact - rounded).max() < 2e-2
    timings = json.loads((tmp_path / "out" / "bf16" / "timings.json").read_text())
    assert timings["tokens_per_second"] > 0
    with pytest.raises(UserError, match=r"holds the results of precision 'bf16', not None.*--overwrite"):
        evaluate([*arguments, "--output", str(tmp_path / "out" / "bf16")])


@pytest.mark.parametrize(("instructions", "comes_to"), [(["amx_tile"], "bf16"), ([], "float32")])
def test_auto_is_named_by_what_it_comes_to(
    instructions: list[str],
    comes_to: str,
    data: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_processor(monkeypatch, *instructions)
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model", str(model)]
    for name in ("auto", comes_to):
        evaluate([*arguments, "--precision", name, "--output", str(tmp_path / name)])
        assert (f"--precision auto comes to {comes_to}\n" in capsys.readouterr().out) == (name == "auto")
    written = [(tmp_path / name / "results.json").read_bytes() for name in ("auto", comes_to)]
    assert written[0] == written[1]
    assert json.loads(written[0]).get("precision", "float32") == comes_to


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--embeddings", "there", "--precision", "bf16"], "--precision: is of the encoder"),
        (["--embeddings", "there", "--precision", "auto"], "--precision: is of the encoder"),
        (["--embeddings", "there", "--compile"], "--compile: is of the encoder"),
        (["--model", "there", "--precision", "fp16"], "fp16 is for GPUs"),
    ],
)
def test_a_precision_that_nothing_can_be_done_with_is_refused(
    options: list[str], words: str, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    given = [str(tmp_path / option) if option == "there" else option for option in options]
    with pytest.raises(UserError, match=words):
        evaluate(["--task", "parallel", "--data-dir", str(data), "--device", "cpu", *given])
