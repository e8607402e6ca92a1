"""Scores of a teacher: the same as scoring each pair alone, whatever is computed at once and by how many processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification

from hybatch.errors import UserError
from hybatch.evaluation import teacher
from hybatch.evaluation.teacher import open_teacher
from hybatch.models import Encoder
from tests.evaluation.cross_encoders import write_cross_encoder
from tests.processes import run_processes

QUERIES = ["what is ash?", "what is beech, the tree with the smooth bark?", "what is ash?", "cedar", "cedar"]
PASSAGES = ["a tree", "a tree", "grey powder that a fire leaves behind", "cedar", "a tree of Lebanon"]


def _scores(path: str, batch_size: int = 3) -> np.ndarray:
    return open_teacher(path).scores(QUERIES, PASSAGES, batch_size=batch_size, progress=False)


@torch.no_grad()
def test_a_bi_encoder_gives_cosines(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(model)
    expected = [
        float(encoder(encoder.tokenize([query], "query"))[0] @ encoder(encoder.tokenize([passage], "passage"))[0])
        for query, passage in zip(QUERIES, PASSAGES, strict=True)
    ]
    found = _scores(str(model))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    monkeypatch.setattr(teacher, "_PAIRS_AT_ONCE", 2)
    np.testing.assert_array_equal(_scores(str(model)), found)


@torch.no_grad()
@pytest.mark.parametrize("saved_by", ["transformers", "sentence-transformers"])
def test_a_cross_encoder_gives_what_its_head_gives_without_an_activation(
    saved_by: str, model: Path, tmp_path: Path
) -> None:
    folder = write_cross_encoder(tmp_path / "cross", model)
    network, tokenizer = BertForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    expected = [
        float(network.eval()(**tokenizer(query, passage, return_tensors="pt")).logits)
        for query, passage in zip(QUERIES, PASSAGES, strict=True)
    ]
    if saved_by == "sentence-transformers":
        from sentence_transformers import CrossEncoder

        CrossEncoder(str(folder)).save_pretrained(str(tmp_path / "saved"))
        folder = tmp_path / "saved"
    assert min(expected) < 0
    assert max(expected) - min(expected) > 0.1
    for batch_size in (1, 3, 8):
        np.testing.assert_allclose(_scores(str(folder), batch_size), expected, atol=1e-5)


def _scores_of_all(*paths: str) -> list[np.ndarray]:
    return [_scores(path, batch_size=2) for path in paths]


@pytest.mark.slow
def test_scores_are_the_same_bits_for_any_number_of_processes(model: Path, tmp_path: Path) -> None:
    folders = (str(model), str(write_cross_encoder(tmp_path / "cross", model)))
    (alone,) = run_processes(_scores_of_all, 1, *folders)
    for shared in run_processes(_scores_of_all, 2, *folders):
        np.testing.assert_array_equal(shared, alone)


def test_no_pairs_have_no_scores(model: Path, tmp_path: Path) -> None:
    for folder in (model, write_cross_encoder(tmp_path / "cross", model)):
        assert open_teacher(str(folder)).scores([], [], batch_size=3, progress=False).shape == (0,)


def test_a_teacher_that_cannot_be_used_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        open_teacher(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="gives a pair 3 labels"):
        open_teacher(str(write_cross_encoder(tmp_path / "classes", model, labels=3)))
    broken = write_cross_encoder(tmp_path / "cross", model)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"pip install 'hybatch\[teacher\]'"):
        open_teacher(str(broken))
    monkeypatch.undo()
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="cross: cannot be read as a cross-encoder"):
        open_teacher(str(broken))


def test_a_score_that_is_no_number_names_the_pair(model: Path, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "cross", model)
    network = BertForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(network.classifier.bias, float("nan"))
    network.save_pretrained(folder)
    with pytest.raises(UserError, match="gives 'what is ash\\?' with 'a tree' a score that is no finite number"):
        _scores(str(folder))
