"""Offsets of languages: applied row by row, kept in the folder, never left out in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, LanguageOffsets, build_encoder
from hybatch.models.encoder import refuse_offsets

TEXTS = ["one", "two three", "four five six"]


def _offsets(width: int = 16, seed: int = 0) -> LanguageOffsets:
    generator = torch.Generator().manual_seed(seed)
    return LanguageOffsets(("de", "en"), torch.randn(2, 2, width, generator=generator) / 4)


def _rows(count: int, width: int = 16) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def encoder() -> Encoder:
    fresh = FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=320, dropout=0.0)
    built = build_encoder(EncoderConfig(fresh=fresh), seed=0, texts=TEXTS).eval()
    return Encoder(built.config, built.backbone, built.tokenizer, offsets=_offsets()).eval()


def test_a_row_has_the_same_bits_whichever_rows_are_with_it() -> None:
    offsets, rows_NH = _offsets(), _rows(40)
    together = offsets.moved(rows_NH, "de", "query")
    for row in range(len(rows_NH)):
        np.testing.assert_array_equal(offsets.moved(rows_NH[row : row + 1], "de", "query")[0], together[row])
    np.testing.assert_array_equal(offsets.moved(rows_NH[::-1], "de", "query"), together[::-1])


def test_a_language_without_an_offset_takes_the_mean_of_all() -> None:
    offsets, rows_NH = _offsets(), _rows(5)
    moved = rows_NH.astype(np.float64) + offsets.offsets[1].double().numpy().mean(axis=0)
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(offsets.moved(rows_NH, "xx", "passage"), expected, atol=1e-7)
    assert offsets.unseen(["en", "yy", "xx", "xx"]) == ["xx", "yy"]


def test_a_vector_that_its_offset_takes_away_whole_stays_zero() -> None:
    rows_NH = _rows(1)
    offsets = LanguageOffsets(("de",), torch.from_numpy(np.broadcast_to(-rows_NH, (2, 1, 16)).copy()))
    np.testing.assert_array_equal(offsets.moved(rows_NH, "de", "query"), np.zeros((1, 16), dtype=np.float32))


def test_what_was_saved_comes_back_bitwise(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "saved")
    loaded = Encoder.load(tmp_path / "saved", languages_known=True)
    assert loaded.offsets is not None
    assert loaded.offsets.languages == ("de", "en")
    torch.testing.assert_close(loaded.state_dict(), encoder.state_dict(), atol=0, rtol=0)


def test_who_does_not_know_the_languages_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"moved by the language of each text.*--method lir"):
        Encoder.load(tmp_path / "saved")
    with pytest.raises(UserError, match="the model: its vectors are moved"):
        refuse_offsets(encoder)
    with pytest.raises(UserError, match="train the model that it was made of"):
        build_encoder(EncoderConfig(backbone=str(tmp_path / "saved")), seed=0)


@torch.no_grad()
def test_sentence_transformers_moves_by_the_language_it_is_told_and_fails_without(
    encoder: Encoder, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="LanguageOffsets"):
        SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    before = encoder(encoder.tokenize(TEXTS, "query")).numpy()
    assert encoder.offsets is not None
    np.testing.assert_allclose(
        theirs.encode(TEXTS, prompt_name="query", language="de", role="query"),
        encoder.offsets.moved(before, "de", "query"),
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="encode\\(texts, language="):
        theirs.encode(TEXTS, prompt_name="query")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", '{"languages": ["de"], "roles": ["query", "passage"]}', "are not finite ones of 2 roles"),
        ("config.json", "{", "cannot be read"),
        ("model.safetensors", "", "cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_by_name(
    encoder: Encoder, tmp_path: Path, name: str, content: str, message: str
) -> None:
    encoder.save(tmp_path / "saved")
    folder = tmp_path / "saved" / "3_LanguageOffsets"
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=f"3_LanguageOffsets.*{message}"):
        Encoder.load(tmp_path / "saved", languages_known=True)


def test_a_language_has_its_offset_under_its_other_code() -> None:
    offsets, rows_NH = _offsets(), _rows(3)
    np.testing.assert_array_equal(offsets.moved(rows_NH, "deu", "query"), offsets.moved(rows_NH, "de", "query"))
    assert offsets.unseen(["deu", "eng", "fra"]) == ["fra"]
    named = LanguageOffsets(("eng", "en"), _offsets().offsets)
    np.testing.assert_array_equal(named.moved(rows_NH, "en", "query"), offsets.moved(rows_NH, "en", "query"))
