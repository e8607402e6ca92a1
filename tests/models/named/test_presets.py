"""Folders laid out as their publishers lay them out, against sentence-transformers; decoders and their end token."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from hybatch.models import Encoder, Role
from hybatch.models.named import NAMED_MODELS, named_model
from hybatch.models.pooling import pool
from hybatch.training.plan.published import published_config
from tests.models.backbones import TEXTS
from tests.models.named.folders import PUBLICATIONS, Publication, publish, small_backbone

# Of one token, of hundreds, and of lengths between.
_TEXTS = ["?", *TEXTS, " ".join(TEXTS * 3)]
_END = 2


@torch.no_grad()
def _encode(encoder: Encoder, texts: list[str], role: Role) -> Tensor:
    return encoder(encoder.tokenize(texts, role))


def _reference(folder: Path, publication: Publication) -> SentenceTransformer:
    if publication.pooling is not None:
        return SentenceTransformer(str(folder), device="cpu")
    backbone = Transformer(str(folder))
    modules = [backbone, Pooling(backbone.get_embedding_dimension(), "mean"), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_a_published_folder_gives_sentence_transformers_vectors_with_the_card_s_prompts(name, tmp_path) -> None:
    publication = PUBLICATIONS[name]
    folder = publish(tmp_path, name)
    encoder = Encoder.load(folder)
    reference = _reference(folder, publication)
    for role, prompt in (("query", publication.query), ("passage", publication.passage)):
        theirs = torch.from_numpy(reference.encode(_TEXTS, prompt=prompt, batch_size=4))
        torch.testing.assert_close(_encode(encoder, _TEXTS, role), theirs, atol=1e-5, rtol=0)
        assert encoder.config.prefix(role) == prompt
    assert (theirs[1:] - theirs[:-1]).norm(dim=1).min() > 1e-3, "the oracle can fail: texts differ"
    named = named_model(name)
    assert named is not None
    assert (encoder.config.pooling, encoder.config.passage_max_length) == (named.pooling, named.max_length)
    encoder.save(tmp_path / "saved")
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode_document(_TEXTS)
    torch.testing.assert_close(torch.from_numpy(saved), theirs, atol=1e-5, rtol=0)


def test_a_decoder_of_another_name_is_cut_at_what_its_folder_says(tmp_path) -> None:
    folder = publish(tmp_path, "qwen3-embedding-0.6b").rename(tmp_path / "mine")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 1024}')
    config = Encoder.load(folder).config
    assert (config.query_max_length, config.passage_max_length, config.pooling) == (1024, 1024, "last")
    assert (config.query_prefix, config.passage_prefix) == (PUBLICATIONS["qwen3-embedding-0.6b"].query, "")


def test_the_sizes_of_every_named_model_are_known_without_a_connection() -> None:
    assert [model.name for model in NAMED_MODELS if published_config(model.hub_id) is None] == []


@pytest.mark.parametrize("name", [name for name, model in PUBLICATIONS.items() if model.pooling == "lasttoken"])
def test_the_token_that_last_pooling_reads_is_the_end_token_also_of_a_text_that_is_cut(name, tmp_path) -> None:
    encoder = Encoder.load(publish(tmp_path, name))
    encoder.config.query_max_length = encoder.config.passage_max_length = 140
    for role in ("query", "passage"):
        features = encoder.tokenize(_TEXTS, role)
        lengths = features["attention_mask"].sum(dim=1)
        assert lengths.max() == 140 > lengths.min()
        assert set(features["input_ids"][torch.arange(len(_TEXTS)), lengths - 1].tolist()) == {_END}
        assert features["attention_mask"][:, 0].all(), "padded on the right"


def test_an_end_token_that_only_the_settings_ask_for_is_appended_and_saved(tmp_path) -> None:
    """transformers 5 passes `add_eos_token` over where there is a tokenizer.json."""
    folder = publish(tmp_path, "e5-mistral-7b-instruct")
    template = json.loads((folder / "tokenizer.json").read_text())
    template["post_processor"]["single"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(template))
    path = folder / "tokenizer_config.json"
    said = {**json.loads(path.read_text()), "tokenizer_class": "LlamaTokenizer"}
    for wanted in (False, True):
        path.write_text(json.dumps({**said, "add_bos_token": True, "add_eos_token": wanted}))
        assert AutoTokenizer.from_pretrained(folder)("short")["input_ids"][-1] != _END
        encoder = Encoder.load(folder)
        row = encoder.tokenize(["short"], "passage")["input_ids"][0].tolist()
        assert (row[0], row.count(_END), row[-1] == _END) == (0, wanted, wanted)
    encoder.save(tmp_path / "saved")
    reference = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    theirs = torch.from_numpy(reference.encode_document(_TEXTS))
    torch.testing.assert_close(_encode(encoder, _TEXTS, "passage"), theirs, atol=1e-5, rtol=0)
    assert not torch.allclose(theirs, torch.from_numpy(SentenceTransformer(str(folder)).encode(_TEXTS)), atol=1e-2)


_small = cache(small_backbone)


def _padded(rows: list[list[int]], side: str) -> dict[str, Tensor]:
    longest = max(map(len, rows))
    pads = [[_END] * (longest - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]
    zeros = [[0] * len(pad) for pad in pads]
    left = side == "left"
    return {
        "input_ids": torch.tensor([p + r if left else r + p for p, r in zip(pads, rows, strict=True)]),
        "attention_mask": torch.tensor([z + o if left else o + z for z, o in zip(zeros, ones, strict=True)]),
    }


@torch.no_grad()
def _last(backbone: PreTrainedModel, features: dict[str, Tensor]) -> Tensor:
    return pool(backbone(**features).last_hidden_state, features["attention_mask"], "last")


@pytest.mark.parametrize("name", ["qwen3-embedding-0.6b", "e5-mistral-7b-instruct"])
@settings(max_examples=25)
@given(rows=st.lists(st.lists(st.integers(5, 80), min_size=0, max_size=60), min_size=1, max_size=6))
def test_last_pooling_reads_the_same_vector_padded_left_right_or_not_at_all(name: str, rows: list[list[int]]) -> None:
    """The positions of these decoders are relative. Padded with the end token, as both publishers do."""
    rows = [[*row, _END] for row in rows]
    backbone = _small(name)
    alone = torch.cat([_last(backbone, _padded([row], "right")) for row in rows])
    for side in ("left", "right"):
        torch.testing.assert_close(_last(backbone, _padded(rows, side)), alone, atol=1e-4, rtol=1e-4)
