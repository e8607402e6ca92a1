"""Embeddings of a collection are made once, survive a kill, and are never taken for those of another model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.errors import UserError
from hybatch.evaluation.collection.shards import EncodedPassages, _architecture, model_fingerprint
from hybatch.models import Encoder
from tests.evaluation.collection.fakes import CollectionEncoder, fake, fake_passages
from tests.models.backbones import save_backbone

DATA = fake(num_passages=25)


def _encode(folder: Path, encoder: Any, **options: Any) -> EncodedPassages:
    passages = fake_passages(folder, DATA, shard_rows=7)
    return EncodedPassages(encoder, passages, folder / "index", batch_size=3, progress=False, **options)


def _all_rows(encoded: EncodedPassages) -> np.ndarray:
    return np.concatenate([rows for _, rows in encoded.blocks(5)])


def test_rows_stand_in_the_order_of_the_passages_with_the_passages_own_prefix(tmp_path: Path) -> None:
    encoder: Any = CollectionEncoder()
    encoded = _encode(tmp_path, encoder)
    expected = [encoder(encoder.tokenize([text], "passage")).detach().numpy()[0] for text in DATA.passages.values()]
    np.testing.assert_allclose(_all_rows(encoded), expected, atol=1e-6)
    np.testing.assert_array_equal(encoded.rows(np.array([0, 6, 7, 24])), _all_rows(encoded)[[0, 6, 7, 24]])
    assert encoded.num_encoded == 25


class Killed(BaseException):
    """Stands for a kill in the middle of an encoding."""


class MortalEncoder(CollectionEncoder):
    """Dies in a forward pass."""

    def __init__(self, forwards: int) -> None:
        super().__init__()
        self.left = forwards

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().forward(features)


@pytest.mark.parametrize("forwards", [0, 2, 3, 8])
def test_after_a_kill_only_what_is_missing_is_encoded_and_the_result_is_the_same(tmp_path: Path, forwards: int) -> None:
    mortal: Any = MortalEncoder(forwards)
    with pytest.raises(Killed):
        _encode(tmp_path, mortal)
    again: Any = CollectionEncoder()
    resumed = _encode(tmp_path, again)
    whole_shards = forwards // 3
    assert resumed.num_encoded == 25 - 7 * whole_shards
    assert len(again.seen) == 25 - 7 * whole_shards + 2  # two texts are for the fingerprint
    np.testing.assert_array_equal(_all_rows(resumed), _all_rows(_encode(tmp_path / "b", CollectionEncoder())))
    last: Any = CollectionEncoder()
    assert _encode(tmp_path, last).num_encoded == 0
    assert last.forwards == 0


def test_other_weights_and_other_types_have_another_folder(tmp_path: Path) -> None:
    first = _encode(tmp_path, CollectionEncoder())
    other: Any = CollectionEncoder()
    with torch.no_grad():
        other.project[0, 0] += 1e-3
    prefixed: Any = CollectionEncoder()
    prefixed.config = "another prefix"
    halves = _encode(tmp_path, CollectionEncoder(), dtype="float16")
    folders = {first.directory, _encode(tmp_path, other).directory, _encode(tmp_path, prefixed).directory}
    assert len(folders | {halves.directory}) == 4
    np.testing.assert_allclose(_all_rows(halves), _all_rows(first), atol=1e-3)
    assert json.loads((first.directory / "manifest.json").read_text())["model"] == model_fingerprint(
        CollectionEncoder()  # type: ignore[arg-type]
    )


def test_equal_weights_that_compute_something_else_are_another_model(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "mbert")
    config = json.loads((folder / "config.json").read_text())
    fingerprints = []
    for changed in ({}, {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}, {"num_attention_heads": 1}):
        (folder / "config.json").write_text(json.dumps(config | changed))
        fingerprints.append(model_fingerprint(Encoder.load(str(folder))))
    assert len(set(fingerprints)) == 4


def test_a_model_is_the_same_from_another_folder(tmp_path: Path) -> None:
    first = save_backbone(tmp_path, "mbert")
    second = Path(shutil.copytree(first, tmp_path / "moved"))
    one, other = (Encoder.load(str(folder)) for folder in (first, second))
    assert _architecture(one) == _architecture(other)


def test_a_truncated_shard_is_named_with_the_mend(tmp_path: Path) -> None:
    path = _encode(tmp_path, CollectionEncoder()).directory / "000002.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"000002\.npy: missing or truncated .* delete it"):
        _encode(tmp_path, CollectionEncoder())
    path.unlink()
    assert _encode(tmp_path, CollectionEncoder()).num_encoded == 7


def test_an_embedding_that_is_not_finite_is_refused_with_its_passage(tmp_path: Path) -> None:
    encoder: Any = CollectionEncoder()
    with torch.no_grad():
        encoder.letters[ord("7")] = torch.nan
    with pytest.raises(UserError, match="passage 'd7' an embedding that is not finite"):
        _encode(tmp_path, encoder)
