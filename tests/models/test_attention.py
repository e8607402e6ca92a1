"""Decoders made encoders: which tokens a token sees, and whether a folder says so to whoever loads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.attention import IS_CAUSAL, OWN_FIELD
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.config import AttentionDirection
from hybatch.models.parts import check_backbone
from tests.models.backbones import TEXTS, save_backbone
from tests.models.named.folders import publish

DIRECTIONS: tuple[AttentionDirection, ...] = ("causal", "bidirectional")
LENGTHS = {"query_max_length": 200, "passage_max_length": 200}


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("architecture", [*IS_CAUSAL, *OWN_FIELD])
def test_a_later_token_reaches_an_earlier_state_under_bidirectional_attention_and_not_under_causal(
    architecture: str, padding: int
) -> None:
    head = {"head_dim": 16} if architecture not in ("llama", "qwen2", "mistral") else {}
    fresh = FreshBackboneConfig(architecture=architecture, width=32, layers=2, heads=2, options=head, dropout=0.0)
    ids = torch.arange(5, 14).repeat(2, 1)
    later = ids.clone()
    later[:, 6] = 30
    mask = torch.ones_like(ids)
    mask[1, 9 - padding :] = 0
    for direction in DIRECTIONS:
        with torch.random.fork_rng(devices=[]):
            made = fresh_backbone(
                fresh, vocabulary_size=50, max_positions=20, attn_implementation=None, attention=direction
            ).eval()
        with torch.no_grad():
            states, other = (made(input_ids=x, attention_mask=mask).last_hidden_state for x in (ids, later))
        reached = (states - other)[:, :6].abs().amax(dim=(0, 2))
        assert torch.all(reached > 1e-4) if direction == "bidirectional" else torch.all(reached == 0)
        assert (states - other)[:, 6:7].abs().max() > 1e-4, "the token itself has changed"


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str]) -> Tensor:
    return encoder(encoder.tokenize(texts, "passage"))


@pytest.mark.parametrize(
    ("name", "direction", "field"),
    [
        ("qwen3-embedding-0.6b", "bidirectional", {"is_causal": False}),
        ("e5-mistral-7b-instruct", "bidirectional", {"is_causal": False, "sliding_window": None}),
        ("embeddinggemma-300m", "causal", {"use_bidirectional_attention": False, "sliding_window": 8}),
    ],
)
@pytest.mark.parametrize("unpad", ["always", "never"])
def test_a_saved_encoder_says_its_attention_to_sentence_transformers_too(
    name: str, direction: AttentionDirection, field: dict, unpad: str, tmp_path: Path
) -> None:
    folder = publish(tmp_path, name)
    config = EncoderConfig(backbone=str(folder), attention=direction, unpad=unpad, **LENGTHS)  # type: ignore[arg-type]
    turned = build_encoder(config, seed=0).eval()
    vectors = _encode(turned, TEXTS)
    assert not torch.allclose(vectors, _encode(Encoder.load(folder), TEXTS), atol=1e-2)
    turned.save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert {key: saved[key] for key in field} == field
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode_document(TEXTS)
    torch.testing.assert_close(torch.from_numpy(theirs), vectors, atol=1e-5, rtol=0)
    for again in (
        Encoder.load(tmp_path / "saved"),
        build_encoder(EncoderConfig(backbone=str(tmp_path / "saved"), **LENGTHS), seed=0).eval(),  # trained further
    ):
        torch.testing.assert_close(_encode(again, TEXTS), vectors, atol=1e-5, rtol=0)


def test_turned_there_and_back_a_decoder_with_windows_of_its_own_is_what_it_was(tmp_path: Path) -> None:
    folder = publish(tmp_path, "embeddinggemma-300m")
    there = build_encoder(EncoderConfig(backbone=str(folder), attention="causal", **LENGTHS), seed=0).eval()
    there.save(tmp_path / "there")
    back = EncoderConfig(backbone=str(tmp_path / "there"), attention="bidirectional", **LENGTHS)  # type: ignore[arg-type]
    torch.testing.assert_close(
        _encode(build_encoder(back, seed=0).eval(), TEXTS), _encode(Encoder.load(folder), TEXTS), atol=1e-6, rtol=0
    )


def test_the_first_token_of_a_decoder_that_sees_both_ways_can_stand_for_the_text() -> None:
    fresh = FreshBackboneConfig(architecture="qwen3", width=32, heads=2, options={"head_dim": 16}, vocabulary_size=400)
    encoder = build_encoder(EncoderConfig(fresh=fresh, pooling="cls", attention="bidirectional"), seed=0, texts=TEXTS)
    assert encoder.config.pooling == "cls"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_attention_of_an_architecture_that_is_not_known_to_turn_is_refused_before_a_corpus_is_read(
    direction: AttentionDirection, tmp_path: Path
) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    message = r"model\.attention: the architecture 'xlm-roberta' is not among .*llama, mistral, qwen2, qwen3"
    with pytest.raises(UserError, match=message):
        check_backbone(EncoderConfig(backbone=str(folder), attention=direction, passage_max_length=64))
    with pytest.raises(UserError, match="'gpt2' is not among"):
        check_backbone(EncoderConfig(fresh=FreshBackboneConfig(architecture="gpt2"), attention=direction))
