from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.models import Encoder, EncoderConfig, build_encoder
from hybatch.models.laser import LaserNetwork
from tests.models.backbones import TEXTS
from tests.models.laser.published import numpy_vector, publish_laser

pytest.importorskip("sacremoses")
# Not sorted by length, one of them empty.
MIXED = ["short", *TEXTS, "", "Столица"]


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str], role="query") -> np.ndarray:
    return encoder(encoder.tokenize(texts, role)).numpy()


def _expected(saved, encoder: Encoder, text: str) -> np.ndarray:
    [ids] = encoder.tokenizer.encode([text], 10**6)
    vector = numpy_vector(saved, ids)
    return vector / np.sqrt(np.sum(vector**2))


def test_a_batch_of_unequal_texts_gives_what_numpy_gives_for_each_alone(tmp_path) -> None:
    saved = publish_laser(tmp_path / "laser")
    encoder = Encoder.load(tmp_path / "laser")
    for text, vector in zip(MIXED, _encode(encoder, MIXED), strict=True):
        np.testing.assert_allclose(vector, _expected(saved, encoder, text), atol=2e-6)


def test_the_published_shape_gives_1024_dimensions_and_numpy_s_vectors(tmp_path) -> None:
    saved = publish_laser(tmp_path / "laser", embed_dim=320, hidden_size=512, num_layers=5)
    encoder = Encoder.load(tmp_path / "laser")
    assert encoder.embedding_size == 1024
    texts = ["Wien", "Столица России — Москва."]
    for text, vector in zip(texts, _encode(encoder, texts), strict=True):
        np.testing.assert_allclose(vector, _expected(saved, encoder, text), atol=2e-6)


def test_padding_never_wins_the_maximum() -> None:
    torch.manual_seed(0)
    network = LaserNetwork(
        num_embeddings=9, padding_idx=1, embed_dim=4, hidden_size=3, num_layers=2, bidirectional=True
    )
    # All hidden states below zero: a padded position that counted as zero would win everywhere.
    for name, parameter in network.lstm.named_parameters():
        gate = parameter.data.view(4, 3, -1)[2]
        gate.fill_(-9.0 if "bias" in name else 0.0)
    encoder = Encoder(EncoderConfig(backbone="laser", pooling="max"), network, tokenizer=None).eval()
    ids = torch.tensor([[4, 5, 6, 7, 2], [4, 2, 1, 1, 1]])
    with torch.no_grad():
        together = encoder({"input_ids": ids, "attention_mask": (ids != 1).long()})
        alone = encoder({"input_ids": ids[1:, :2], "attention_mask": torch.ones(1, 2, dtype=torch.int64)})
    assert (together < 0).all()
    torch.testing.assert_close(together[1:], alone)


def test_queries_and_passages_are_the_same_to_laser_and_never_cut(tmp_path) -> None:
    publish_laser(tmp_path / "laser")
    encoder = Encoder.load(tmp_path / "laser")
    long = " ".join(TEXTS * 20)
    assert encoder.tokenize([long], "query")["input_ids"].shape[1] > 1000
    np.testing.assert_array_equal(_encode(encoder, [long], "query"), _encode(encoder, [long], "passage"))


def test_laser_is_evaluated_by_the_same_command(tmp_path, capsys) -> None:
    publish_laser(tmp_path / "laser")
    (tmp_path / "data").mkdir()
    for language in ("de", "en"):
        rows = [{"id": str(i), "question": text, "passage": text + language} for i, text in enumerate(TEXTS)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "data" / f"{language}.jsonl").write_text(lines)
    arguments = ["--model", str(tmp_path / "laser"), "--task", "parallel", "--data-dir", str(tmp_path / "data")]
    results = evaluate([*arguments, "--device", "cpu", "--backend", "torch"]).results
    assert results["num_queries"] == {"de": len(TEXTS), "en": len(TEXTS)}
    assert 0 < results["summary"]["multilingual"]["map"] <= 1


def test_training_laser_or_saving_it_is_refused_in_words(tmp_path) -> None:
    publish_laser(tmp_path / "laser")
    with pytest.raises(UserError, match="holds LASER-2, which can be evaluated"):
        build_encoder(EncoderConfig(backbone=str(tmp_path / "laser")), seed=0)
    with pytest.raises(UserError, match="copy its published files"):
        Encoder.load(tmp_path / "laser").save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
