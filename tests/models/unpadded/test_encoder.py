"""An encoder without padding, beside itself with padding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from sentence_transformers import SentenceTransformer

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, PoolingMode, build_encoder
from tests.models.backbones import TEXTS, save_backbone


def _encoder(folder: Path, **options: Any) -> Encoder:
    lengths = {"query_max_length": 40, "passage_max_length": 60}
    return build_encoder(EncoderConfig(backbone=str(folder), **{**lengths, **options}), seed=0)


@pytest.mark.parametrize("pooling", get_args(PoolingMode))
@pytest.mark.parametrize("checkpointing", [False, True])
def test_padding_changes_neither_embeddings_nor_gradients(
    tmp_path: Path, pooling: PoolingMode, checkpointing: bool
) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    results = []
    for unpad in ("never", "always"):
        encoder = _encoder(
            folder, unpad=unpad, pooling=pooling, gradient_checkpointing=checkpointing, dropout=0.0
        ).double()
        embeddings = encoder(encoder.tokenize(TEXTS, "passage"))
        (embeddings * torch.arange(embeddings.numel()).view_as(embeddings)).sum().backward()
        results.append((embeddings, {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}))
    (padded, padded_gradients), (found, gradients) = results
    assert torch.allclose(found, padded, rtol=0, atol=1e-6)  # pooled in float32
    assert gradients.keys() == padded_gradients.keys()
    scale = max(gradient.abs().max() for gradient in padded_gradients.values())
    for name, gradient in padded_gradients.items():
        assert (gradients[name] - gradient).abs().max() <= 1e-5 * scale, name


def test_the_same_seed_draws_the_same_dropout(tmp_path: Path) -> None:
    encoder = _encoder(save_backbone(tmp_path, "labse"), unpad="always", dropout=0.4)
    features = encoder.tokenize(TEXTS, "passage")
    outputs = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs.append(encoder(features))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2])


def test_an_encoder_says_why_its_texts_are_padded(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    assert _encoder(folder).padded_because is None
    assert _encoder(folder, unpad="never").padded_because == "model.unpad is never"
    assert _encoder(folder, attn_implementation="eager").padded_because == "its attention is eager, not sdpa"
    deberta = save_backbone(tmp_path, "mdeberta")
    assert "'deberta-v2'" in str(_encoder(deberta).padded_because) or "eager" in str(_encoder(deberta).padded_because)
    with pytest.raises(UserError, match=r"model\.unpad is always, but .*: use auto"):
        _encoder(deberta, unpad="always")


def test_an_encoder_can_be_told_to_pad(tmp_path: Path) -> None:
    encoder = _encoder(save_backbone(tmp_path, "xlm-roberta"), dropout=0.0).eval()
    features = encoder.tokenize(TEXTS, "query")
    without = encoder(features)
    encoder.pad("of a whim")
    assert encoder.padded_because == "of a whim"
    assert torch.allclose(encoder(features), without, rtol=0, atol=1e-6)


def test_token_embeddings_that_were_looked_up_stand_for_the_tokens(tmp_path: Path) -> None:
    encoder = _encoder(save_backbone(tmp_path, "xlm-roberta"), dropout=0.0)
    features = encoder.tokenize(TEXTS, "query")
    assert encoder.token_table is not None
    rows = encoder.token_table(features["input_ids"][features["attention_mask"].bool()])[None]
    assert torch.equal(encoder(features, rows), encoder(features))


def test_what_is_saved_names_no_attention_of_ours_and_loads_anywhere(tmp_path: Path) -> None:
    encoder = _encoder(save_backbone(tmp_path, "xlm-roberta"), unpad="always", dropout=0.3).eval()
    encoder.save(tmp_path / "saved")
    assert "hybatch" not in (tmp_path / "saved" / "config.json").read_text()
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode_document(TEXTS, convert_to_tensor=True)
    ours = encoder(encoder.tokenize(TEXTS, "passage"))
    assert torch.allclose(theirs, ours, rtol=0, atol=1e-6)
    loaded = Encoder.load(tmp_path / "saved")
    assert loaded.padded_because is None
    assert (loaded.config.unpad, loaded.config.dropout) == ("auto", None)


_UNPICKLED = """
import sys, torch
encoder = torch.load(sys.argv[1], weights_only=False)
torch.save(encoder(encoder.tokenize(sys.argv[3:], "passage")), sys.argv[2])
"""


def test_an_encoder_is_unpickled_in_a_process_that_has_built_none(tmp_path: Path) -> None:
    encoder = _encoder(save_backbone(tmp_path, "xlm-roberta"), unpad="always").eval()
    torch.save(encoder, tmp_path / "encoder.pt")
    command = [sys.executable, "-c", _UNPICKLED, str(tmp_path / "encoder.pt"), str(tmp_path / "found.pt"), *TEXTS]
    subprocess.run(command, check=True)
    expected = encoder(encoder.tokenize(TEXTS, "passage"))
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), expected, rtol=0, atol=1e-6)


def test_the_dropout_of_a_pretrained_backbone_is_what_is_asked_and_a_fresh_one_has_its_own(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    its_own = json.loads((folder / "config.json").read_text())["hidden_dropout_prob"]
    for asked, expected in ((None, its_own), (0.0, 0.0), (0.25, 0.25)):
        config = _encoder(folder, dropout=asked).backbone.config
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (expected, expected)
    fresh = EncoderConfig(fresh=FreshBackboneConfig(vocabulary_size=300), dropout=0.1)
    with pytest.raises(UserError, match=r"model\.fresh\.dropout"):
        build_encoder(fresh, seed=0, texts=TEXTS)
