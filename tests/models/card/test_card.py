"""The README.md of a saved encoder: what it tells, and that what it tells people to run gives the encoder's vectors."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder, EncoderConfig, build_encoder
from hybatch.models.card import CARD, Origin, base_model, model_card, versions
from hybatch.models.card.card import cell, code
from tests.models.backbones import save_backbone

CONFIG = EncoderConfig(backbone="labse", pooling="cls", head="none", query_prefix="q: ", passage_prefix="p: ")


def _snippets(card: str, folder: Path) -> list[dict[str, Any]]:
    """The names that each Python snippet of a card leaves, run on the folder."""
    left = []
    for snippet in re.findall(r"```python\n(.*?)```", card, re.S):
        names: dict[str, Any] = {}
        exec(snippet.replace("MODEL", str(folder)), names)
        left.append(names)
    return left


def _card(**origin: Any) -> ModelCard:
    told = {"title": "One", "made": "Made.", "base": base_model("labse"), **origin}
    return ModelCard(model_card(CONFIG, Origin(**told), width=8, further={}, by_language=False))


def test_a_model_that_is_given_as_the_folder_one_is_in_has_that_folder_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert base_model(".").name == "mine"
    assert base_model("..").name == tmp_path.name


def test_what_the_card_tells_people_to_run_gives_the_vectors_of_the_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = save_backbone(tmp_path, "xlm-roberta")
    lengths = {"query_max_length": 30, "passage_max_length": 40}
    encoder = build_encoder(EncoderConfig(backbone=str(backbone), **lengths), seed=0).eval()
    encoder.save(tmp_path / "saved")
    expected = [
        encode_texts(encoder, texts, role, batch_size=1, progress=False)
        for texts, role in (
            (["Was ist die Hauptstadt von Italien?"], "query"),
            (["The capital of Italy is Rome.", "Gold has the symbol Au."], "passage"),
        )
    ]
    left = _snippets((tmp_path / "saved" / CARD).read_text(encoding="utf-8"), tmp_path / "saved")
    assert len(left) == 2
    for names in left:
        for found, wanted in zip((names["queries"], names["passages"]), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert not torch.equal(torch.from_numpy(expected[1]), torch.from_numpy(expected[1][::-1].copy()))


def test_an_encoder_that_is_loaded_and_saved_keeps_its_card_also_where_people_wrote_in_it(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path, "xlm-roberta")
    lengths = {"query_max_length": 30, "passage_max_length": 40}
    build_encoder(EncoderConfig(backbone=str(backbone), **lengths), seed=0).save(tmp_path / "one")
    card = tmp_path / "one" / CARD
    card.write_bytes(card.read_bytes() + "\nÜber dieses Modell.\n".encode() + "Été".encode("latin-1"))
    Encoder.load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "two" / CARD).read_bytes() == card.read_bytes()


def test_a_card_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    backbone = save_backbone(tmp_path, "xlm-roberta")
    lengths = {"query_max_length": 30, "passage_max_length": 40}
    build_encoder(EncoderConfig(backbone=str(backbone), **lengths), seed=0).save(tmp_path / "saved")
    text = (tmp_path / "saved" / CARD).read_text(encoding="utf-8")
    assert "# xlm-roberta\n" in text
    assert str(tmp_path) not in text


def test_the_metadata_is_what_the_hub_reads() -> None:
    facts = _card(languages=("de", "no", "zh-TW", "swh"), datasets=["me/pairs"]).data.to_dict()
    assert facts["language"] == ["de", "no", "swh"]
    assert facts["license"] == "apache-2.0"
    assert facts["base_model"] == "sentence-transformers/LaBSE"
    assert facts["library_name"] == "sentence-transformers"
    assert facts["pipeline_tag"] == "sentence-similarity"
    assert facts["datasets"] == ["me/pairs"]


@pytest.mark.parametrize(
    ("head", "hub_id", "licence"),
    [
        ("license: cc-by-4.0\nbase_model: them/base\n", "them/base", "cc-by-4.0"),
        ("license: [mit]\nbase_model: /home/me/base\n", None, None),
        ("license: {\n", None, None),
        (None, None, None),
    ],
)
def test_licence_and_base_come_from_the_base_folder_s_own_card(
    tmp_path: Path, head: str | None, hub_id: str | None, licence: str | None
) -> None:
    folder = tmp_path / "my-base"
    folder.mkdir()
    if head is not None:
        (folder / CARD).write_text(f"---\n{head}---\n# Base\n", encoding="utf-8")
    base = base_model(str(folder))
    assert (base.name, base.hub_id, base.licence) == ("my-base", hub_id, licence)
    text = str(_card(base=base))
    assert ("Its licence is not known here" in text) == (licence is None)
    assert ("license" in yaml.safe_load(text.split("---\n")[1])) == (licence is not None)


@pytest.mark.parametrize("name", ["multilingual-e5-small", "intfloat/multilingual-e5-small"])
def test_a_published_base_is_known_by_name_and_by_hub_id(name: str) -> None:
    base = base_model(name)
    assert (base.name, base.hub_id, base.licence) == (*["intfloat/multilingual-e5-small"] * 2, "mit")


def test_a_base_that_nobody_knows_is_named_and_no_licence_guessed() -> None:
    base = base_model("somebody/something")
    assert (base.name, base.hub_id, base.licence) == ("somebody/something", "somebody/something", None)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_whatever_is_said_in_a_table_stays_in_its_cell(text: str) -> None:
    for shown in (cell(text), code(text)):
        assert len(shown.splitlines()) <= 1
        assert not re.search(r"(?<!\\)\|", shown)


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        (
            '{"url": "https://host/x", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}',
            "hybatch 0.1.0 (abc123),",
        ),
        ('{"url": "file:///home/me/x", "dir_info": {"editable": true}}', "hybatch 0.1.0, torch"),
        (None, "hybatch 0.1.0, torch"),
    ],
)
def test_the_commit_is_told_where_pip_knows_it(monkeypatch: pytest.MonkeyPatch, origin: str | None, known: str) -> None:
    installed = SimpleNamespace(read_text=lambda name: origin if name == "direct_url.json" else None)
    monkeypatch.setattr(versions, "distribution", lambda name: installed)
    monkeypatch.setattr(versions, "__version__", "0.1.0")
    assert versions.versions_used().startswith(known)
