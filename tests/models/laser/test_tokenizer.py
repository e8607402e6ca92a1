from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sentencepiece

from hybatch.errors import UserError
from hybatch.models.laser import LaserTokenizer
from tests.models.backbones import TEXTS
from tests.models.laser.published import LEFT_OUT, SPECIALS, publish_laser

pytest.importorskip("sacremoses")


def _tokenizer(folder: Path) -> tuple[LaserTokenizer, dict[str, int]]:
    ids = publish_laser(folder)["dictionary"]
    return LaserTokenizer(folder / "laser2.spm", ids), ids


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("WIEN, Österreich", "wien, österreich"),
        ("a\u200bb\tc\x07d", "a b c d"),
        ("„Faust“ – l’été …", '"faust" - l\'été ...'),
        ("«Москва»", '"москва"'),
        ("50 % ( yes )", "50% (yes)"),
        ("  two   spaces ", "two spaces"),
        ("中国的首都是哪里？", "中国的首都是哪里？"),
        ("", ""),
    ],
)
def test_a_text_is_cleaned_as_the_publisher_cleans_it(text, cleaned, tmp_path) -> None:
    tokenizer, _ = _tokenizer(tmp_path / "laser")
    assert tokenizer.clean(text) == cleaned


def test_ids_are_the_vocabulary_s_and_not_sentencepiece_s_and_end_with_eos(tmp_path) -> None:
    tokenizer, ids = _tokenizer(tmp_path / "laser")
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "laser" / "laser2.spm"))
    for text, row in zip(TEXTS, tokenizer.encode(TEXTS, 1000), strict=True):
        pieces = model.encode(tokenizer.clean(text), out_type=str)
        assert row == [ids.get(piece, SPECIALS["<unk>"]) for piece in pieces] + [SPECIALS["</s>"]]
        assert row != [*model.encode(tokenizer.clean(text)), SPECIALS["</s>"]]


def test_pieces_outside_the_vocabulary_are_unknown_and_an_empty_text_is_eos_alone(tmp_path) -> None:
    tokenizer, ids = _tokenizer(tmp_path / "laser")
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "laser" / "laser2.spm"))
    # sentencepiece knows the first piece and not the second; the vocabulary neither.
    assert model.encode("ω", out_type=str) == [LEFT_OUT, "ω"]
    assert LEFT_OUT not in ids
    assert tokenizer.encode(["Ω", ""], 9) == [[3, 3, 2], [2]]


def test_a_cut_text_keeps_its_end_token(tmp_path) -> None:
    tokenizer, _ = _tokenizer(tmp_path / "laser")
    [whole], [cut] = tokenizer.encode(TEXTS[:1], 1000), tokenizer.encode(TEXTS[:1], 5)
    assert cut == [*whole[:4], SPECIALS["</s>"]]


def test_a_sentencepiece_model_of_another_vocabulary_is_refused(tmp_path) -> None:
    _tokenizer(tmp_path / "laser")
    with pytest.raises(UserError, match="do not belong together"):
        LaserTokenizer(tmp_path / "laser" / "laser2.spm", {"other": 4})


def test_a_missing_sacremoses_names_the_extra(tmp_path, monkeypatch) -> None:
    _, ids = _tokenizer(tmp_path / "laser")
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UserError, match=r"hybatch\[laser\]"):
        LaserTokenizer(tmp_path / "laser" / "laser2.spm", ids)
