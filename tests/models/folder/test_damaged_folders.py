"""Folders whose files are damaged, or that bring code: one message that names the file, and nothing is run."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from hybatch.models.parts import check_backbone
from tests.models.backbones import TEXTS, save_backbone, tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "saved"
    fresh = FreshBackboneConfig(width=32, layers=1, vocabulary_size=400)
    build_encoder(EncoderConfig(fresh=fresh, head="dense"), seed=0, texts=TEXTS).save(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "model")


JSON_FILES = (
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "hybatch.json",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.mark.parametrize("content", ["null", "3", '"text"', "[1, 2]", '{"a": '], ids=repr)
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_json_file_that_holds_something_else_is_named(model: Path, name: str, content: str) -> None:
    (model / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(str(model / name))):
        Encoder.load(model)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sentence_bert_config.json", "max_seq_length", "many"),
        ("sentence_bert_config.json", "max_seq_length", -1),
        ("1_Pooling/config.json", "pooling_mode", 4),
        ("1_Pooling/config.json", "pooling_mode", [None]),
        ("2_Dense/config.json", "in_features", "wide"),
        ("2_Dense/config.json", "activation_function", None),
        ("config_sentence_transformers.json", "prompts", ["query"]),
        ("config_sentence_transformers.json", "prompts", {"query": 5}),
    ],
)
def test_a_setting_of_the_wrong_type_is_named_by_its_file(model: Path, name: str, key: str, value: object) -> None:
    settings = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps({**settings, key: value}))
    with pytest.raises(UserError, match=re.escape(name)):
        Encoder.load(model)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _header_only(path: Path) -> None:
    os.truncate(path, 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _header_only, _empty])
@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
def test_truncated_weights_are_named(model: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(model / name)
    with pytest.raises(
        UserError, match=f"{re.escape(Path(name).name)}: cannot be read|{Path(name).name} cannot be read"
    ):
        Encoder.load(model)


def _bring_code(folder: Path, marker: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "coded.Config", "AutoModel": "coded.Model"}
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "new-bert", "auto_map": names}))
    (folder / "coded.py").write_text(f"open({str(marker)!r}, 'w').write('it ran')\n")


def _bring_tokenizer_code(folder: Path, marker: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "CodedTokenizer", "auto_map": {"AutoTokenizer": ["coded.CodedTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "coded.py").write_text(f"open({str(marker)!r}, 'w').write('it ran')\n")


@pytest.mark.parametrize(("bring", "part"), [(_bring_code, "backbone"), (_bring_tokenizer_code, "tokenizer")])
def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(
    bring: Callable[[Path, Path], None], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    bring(folder, tmp_path / "marker")
    monkeypatch.setattr(sys, "stdin", None)  # a question would fail
    for use in (Encoder.load, lambda path: build_encoder(EncoderConfig(backbone=str(path)), seed=0)):
        with pytest.raises(UserError, match=f"its {part} needs code that comes with the model .* runs no code"):
            use(folder)
    assert not (tmp_path / "marker").exists()


def test_a_disk_that_fills_up_under_the_tokenizer_is_an_os_error_with_its_number(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(model)

    def full_disk(*_: object) -> None:
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(type(encoder.tokenizer), "save_pretrained", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        encoder.save(tmp_path / "copy")
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "copy").exists()


def test_a_prefix_without_room_is_refused_before_a_corpus_is_read(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    config = EncoderConfig(
        backbone=str(folder), query_prefix="a long instruction for every query: ", query_max_length=8
    )
    with pytest.raises(UserError, match=r"model\.query_prefix .* leave 0 for the text"):
        check_backbone(config)


def test_weights_of_another_kind_than_their_name_says_are_named(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_text("<html>not found</html>")
    with pytest.raises(UserError, match=r"pytorch_model\.bin cannot be read, truncated or damaged; restore the file"):
        Encoder.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_git_lfs_has_not_fetched_is_named_with_the_mend(name: str, tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n")
    with pytest.raises(UserError, match=rf"{re.escape(name)}: holds no more than where Git LFS keeps .*git lfs pull"):
        check_backbone(EncoderConfig(backbone=str(folder), query_max_length=24, passage_max_length=24))


def test_older_weights_beside_those_that_are_read_need_not_be_fetched(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\n")
    Encoder.load(folder)


def test_tokens_that_the_backbone_has_no_rows_for_are_named_before_a_text_has_one(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    tokens = copy.deepcopy(tokenizer())
    rows = len(tokens)
    tokens.add_tokens(["Donau"])
    tokens.save_pretrained(folder)
    message = rf"the token 'Donau' with the number {rows}, its backbone has rows for {rows} tokens: .* resize"
    with pytest.raises(UserError, match=message):
        build_encoder(EncoderConfig(backbone=str(folder), query_max_length=24, passage_max_length=24), seed=0)


def test_a_special_token_without_a_row_is_let_pass_where_no_text_is_given_it(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    plain = Encoder.load(folder)
    tokens = copy.deepcopy(tokenizer())
    tokens.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokens.save_pretrained(folder)
    features = [encoder.tokenize(["a town"], "query") for encoder in (plain, Encoder.load(folder))]
    assert torch.equal(features[0]["input_ids"], features[1]["input_ids"])


@pytest.mark.parametrize("unpad", ["auto", "never"])
def test_a_padding_token_without_a_row_gives_way_to_the_end_token(unpad: Literal["auto", "never"], tmp_path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    options: dict[str, Any] = {"query_max_length": 24, "passage_max_length": 24, "unpad": unpad}
    before = build_encoder(EncoderConfig(backbone=str(folder), **options), seed=0).eval()
    tokens = copy.deepcopy(tokenizer())
    tokens.add_special_tokens({"pad_token": "[PAD]"})
    tokens.save_pretrained(folder)
    after = build_encoder(EncoderConfig(backbone=str(folder), **options), seed=0).eval()
    texts = ["a town", "a longer text about the river Danube"]
    with torch.no_grad():
        torch.testing.assert_close(after(after.tokenize(texts, "query")), before(before.tokenize(texts, "query")))
    after.save(tmp_path / "saved")
    assert Encoder.load(tmp_path / "saved").tokenizer.pad_token_id < len(tokenizer())
