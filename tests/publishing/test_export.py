"""`hybatch export --to onnx`: another runtime gives the encoder's vectors, from the exported folder alone."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch import cli
from hybatch.models import Encoder, LanguageOffsets, Role
from hybatch.publishing import export
from hybatch.publishing.onnx_graph import TOLERANCE
from tests.publishing.saved import save_encoder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'hybatch[onnx]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed; pip install 'hybatch[onnx]'")
TEXTS = [
    "a",
    "Wien liegt an der Donau, und das schon lange.",
    "中国的首都是哪里？",
    "rivers and hills " * 30,
    "two words",
]


def _export(model: Path, output: Path) -> int:
    return cli.main(["export", str(model), "--to", "onnx", "--output", str(output)])


def _assert_same_vectors(model: Path, exported: Path) -> None:
    """The page of the exported folder, run as it is, against the encoder: alone, in pairs and all at once."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(encoding="utf-8"), re.S)
    page: dict[str, Any] = {}
    exec(snippet.replace("FOLDER", str(exported)), page)
    encoder = Encoder.load(model)
    roles: tuple[Role, Role] = ("query", "passage")
    for role in roles:
        for texts in (TEXTS, *([text] for text in TEXTS), TEXTS[1:3], TEXTS * 3):
            with torch.inference_mode():
                expected = encoder(encoder.tokenize(texts, role)).numpy()
            np.testing.assert_allclose(page["encode"](texts, role), expected, atol=TOLERANCE)


def test_mean_pooling_and_a_dense_head(tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "model", head="dense")
    assert _export(model, tmp_path / "out") == 0
    _assert_same_vectors(model, tmp_path / "out")
    assert _export(model, tmp_path / "out") == 2, "what is there is not replaced"


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "pooling"), [("labse", "cls"), ("mbert", "last")])
def test_other_poolings(tmp_path: Path, architecture: str, pooling: str) -> None:
    model = save_encoder(tmp_path / "model", architecture, pooling=pooling)
    assert _export(model, tmp_path / "out") == 0
    _assert_same_vectors(model, tmp_path / "out")


@pytest.mark.parametrize(("difference", "said"), [(2 * TOLERANCE, "2.0e-04"), (math.nan, "nan")])
def test_a_graph_that_disagrees_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], difference: float, said: str
) -> None:
    monkeypatch.setattr(export, "write_graph", lambda encoder, path: path.write_bytes(b"wrong"))
    monkeypatch.setattr(export, "largest_difference", lambda encoder, path: difference)
    assert _export(save_encoder(tmp_path / "model"), tmp_path / "out") == 2
    assert f"vectors are {said} from the encoder's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_offsets_of_languages_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = Encoder.load(save_encoder(tmp_path / "model"))
    width = encoder.embedding_size
    offsets = LanguageOffsets(["de", "en"], torch.zeros(2, 2, width, dtype=torch.float64))
    Encoder(encoder.config, encoder.backbone, encoder.tokenizer, [], offsets).save(tmp_path / "moved")
    assert _export(tmp_path / "moved", tmp_path / "out") == 2
    assert "moved by the language of each text" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert _export(tmp_path / "model", tmp_path / "out") == 2
    assert "pip install 'hybatch[onnx]'" in capsys.readouterr().err
