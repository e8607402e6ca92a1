"""Encoders reach mteb with the prompts, pooling and head that `hybatch evaluate` gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.errors import UserError
from hybatch.evaluation.mteb.model import find_model, load_model, settle_prompts
from hybatch.models import Encoder
from tests.models.backbones import save_backbone

TEXTS = ["0 1 2", "3 4 5 6 7 8 9"]


def _prompts(folder: Path, name: str = "mine", *, saved: dict[str, str] | None = None, **given: Any) -> dict[str, str]:
    folder.mkdir()
    (folder / "modules.json").write_text(
        json.dumps([{"type": "models.Transformer", "path": ""}, {"type": "models.Pooling", "path": "1_Pooling"}])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    if saved is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": saved}))
    return settle_prompts(name, folder, **({"query": None, "passage": None} | given))


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        ({"query": "q", "passage": "p", "document": "d"}, {"query": "q", "document": "d"}),
        ({"query": "q", "passage": "p", "document": ""}, {"query": "q", "document": "p"}),
        ({"query": "q", "passage": "p"}, {"query": "q", "document": "p"}),
        ({"query": "", "document": ""}, {"query": "", "document": ""}),
        ({"query": "q", "document": "d", "STS": "s"}, {"query": "q", "document": "d", "STS": "s"}),
    ],
)
def test_the_folder_s_prompts_are_taken(tmp_path: Path, saved: dict[str, str], expected: dict[str, str]) -> None:
    assert _prompts(tmp_path / "model", saved=saved) == expected


def test_prompts_given_go_before_the_folder_s(tmp_path: Path) -> None:
    saved = {"query": "q", "document": "d"}
    assert _prompts(tmp_path / "model", saved=saved, passage="") == {"query": "q", "document": ""}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("multilingual-e5-base", {"query": "query: ", "document": "passage: "}), ("labse", {"query": "", "document": ""})],
)
def test_a_published_model_has_its_habit(tmp_path: Path, name: str, expected: dict[str, str]) -> None:
    assert _prompts(tmp_path / "model", name, saved={"query": "", "document": ""}) == expected


def test_a_side_without_a_prompt_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prompt for document; .*--passage-prompt TEXT, or ''"):
        _prompts(tmp_path / "model", saved={"query": "q"})


def test_a_plain_backbone_keeps_the_pooling_and_head_that_it_is_used_to(tmp_path: Path) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed; pip install 'hybatch[mteb]'")
    model, folder = find_model(str(save_backbone(tmp_path, "labse")))
    wrapped = load_model(model, folder, settle_prompts(model, folder, query=None, passage=None), device="cpu")
    encoder = Encoder.load(model)
    with torch.inference_mode():
        expected = encoder(encoder.tokenize(TEXTS, "query")).numpy()
    np.testing.assert_allclose(wrapped.model.encode_query(TEXTS), expected, atol=1e-6)
    assert wrapped.mteb_model_meta.name == "/".join(folder.parts[-2:])


def test_laser_is_refused_with_the_command_that_takes_it(tmp_path: Path) -> None:
    for name in ("laser2.pt", "laser2.spm", "laser2.cvocab"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="use hybatch evaluate"):
        find_model(str(tmp_path))
