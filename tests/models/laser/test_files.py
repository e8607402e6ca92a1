from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hybatch.errors import UserError
from hybatch.models.laser import read_laser
from tests.models.laser.published import publish_laser

pytest.importorskip("sacremoses")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish_laser(tmp_path / "laser")
    return tmp_path / "laser"


def _change(folder: Path, change: Any) -> None:
    saved = torch.load(folder / "laser2.pt", weights_only=True)
    change(saved)
    torch.save(saved, folder / "laser2.pt")


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (["laser2.pt"], "lacks laser2.pt; fetch"),
        (["laser2.spm"], "lacks laser2.spm"),
        (["laser2.pt", "laser2.spm"], "laser2.pt and laser2.spm"),
    ],
)
def test_a_missing_file_is_named_with_its_address(folder, removed, message) -> None:
    for name in removed:
        (folder / name).unlink()
    with pytest.raises(UserError, match=message):
        read_laser(folder)


def test_the_cvocab_gives_the_same_ids_as_the_weights_dictionary(folder) -> None:
    by_weights = read_laser(folder)[1].get_vocab()
    _change(folder, lambda saved: saved.pop("dictionary"))
    assert read_laser(folder)[1].get_vocab() == by_weights
    (folder / "laser2.cvocab").unlink()
    with pytest.raises(UserError, match=r"laser2\.cvocab: is missing, and laser2\.pt holds no dictionary"):
        read_laser(folder)


def test_a_broken_line_of_the_cvocab_is_named(folder) -> None:
    _change(folder, lambda saved: saved.pop("dictionary"))
    (folder / "laser2.cvocab").write_text("▁a 5\nbroken\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"laser2\.cvocab, line 2: .*'broken'"):
        read_laser(folder)


def test_weights_in_half_precision_are_read_as_fp32(folder) -> None:
    _change(folder, lambda saved: saved.update(model={k: v.half() for k, v in saved["model"].items()}))
    network, _ = read_laser(folder)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved["model"].pop("lstm.bias_hh_l2"), "lacks lstm.bias_hh_l2"),
        (lambda saved: saved["model"].update(decoder=torch.zeros(1)), "has besides decoder"),
        (lambda saved: saved["params"].update(num_layers=4), r"lacks lstm.bias_hh_l3, .* and 4 more"),
        (lambda saved: saved["params"].update(hidden_size=7), r"lstm\.weight_ih_l0 is \[20, 6\] and not \[28, 6\]"),
        (lambda saved: saved["params"].update(num_heads=4), "its params have num_heads"),
        (lambda saved: saved["params"].update(num_layers="x"), "describe no network"),
        (lambda saved: saved["dictionary"].update(more=10**6), "ids do not fit the"),
        (lambda saved: (saved.pop("params"), saved.update(cfg={})), "LASER-3's transformers"),
    ],
)
def test_weights_of_another_architecture_say_what_differs(folder, change, message) -> None:
    _change(folder, change)
    with pytest.raises(UserError, match=message):
        read_laser(folder)


def test_truncated_weights_are_an_error_of_the_user(folder) -> None:
    whole = (folder / "laser2.pt").read_bytes()
    (folder / "laser2.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"laser2\.pt: cannot be read"):
        read_laser(folder)


def test_a_sentencepiece_file_that_is_none_is_an_error_of_the_user(folder) -> None:
    (folder / "laser2.spm").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"laser2\.spm: is not a sentencepiece model"):
        read_laser(folder)
