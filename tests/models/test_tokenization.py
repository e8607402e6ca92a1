from __future__ import annotations

import copy
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import BertJapaneseTokenizer

from hybatch.errors import UserError
from hybatch.models import EncoderConfig, FreshBackboneConfig
from hybatch.models.tokenization import (
    FEWEST_TEXT_TOKENS,
    SPECIAL_TOKENS,
    check_room,
    refuse_tokenless,
    suspected_tokenless,
    tokenize,
    train_tokenizer,
    untruncated_lengths,
)
from tests.models.backbones import TEXTS, tokenizer


def test_the_same_texts_give_the_same_tokenizer_and_ties_between_rare_characters_break_alike() -> None:
    config = FreshBackboneConfig(vocabulary_size=320)
    rare = ["".join(map(chr, range(0x4E00 + start, 0x4E00 + start + 50))) for start in range(0, 1000, 50)]
    first, second = (train_tokenizer(config, TEXTS + rare).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=30))
@example("<pad>")
@example("<s>old</s> price")
def test_every_text_comes_back_through_byte_fallback(text: str) -> None:
    ids = tokenizer()(text)["input_ids"]
    assert set(ids[1:-1]).isdisjoint(range(len(SPECIAL_TOKENS)))
    decoded = tokenizer().decode(ids, skip_special_tokens=True)
    normal = " ".join(unicodedata.normalize("NFKC", text).split())
    # The word mark itself cannot be told from the space that it stands for.
    assert decoded.replace("▁", " ").split() == normal.replace("▁", " ").split()


def test_a_character_that_was_never_seen_is_spelt_in_bytes() -> None:
    tokens = tokenizer().tokenize("🜚")
    assert tokens[-4:] == [f"<0x{byte:02X}>" for byte in "🜚".encode()]


def test_a_text_encodes_between_start_and_end_in_the_order_of_xlm_r_s_special_tokens() -> None:
    ids = tokenizer()("short")["input_ids"]
    assert (ids[0], ids[-1]) == (0, 2)
    assert tokenizer().pad_token_id == 1
    assert tokenizer().convert_ids_to_tokens([0, 1, 2, 3, 4]) == list(SPECIAL_TOKENS)


def test_texts_without_spaces_are_cut_into_learned_pieces() -> None:
    thai = "ประเทศไทย"
    trained = train_tokenizer(FreshBackboneConfig(vocabulary_size=400), [thai + "มาก", "ใน" + thai, thai] * 5)
    assert 1 < len(trained(thai)["input_ids"]) < len(thai)


def test_punctuation_is_split_from_words() -> None:
    assert not any(len(token) > 1 and "," in token for token in tokenizer().get_vocab())


def test_lowercase_joins_what_differs_in_case_alone() -> None:
    lowered = train_tokenizer(FreshBackboneConfig(vocabulary_size=400, lowercase=True), TEXTS)
    assert lowered("CAPITAL Österreich")["input_ids"] == lowered("capital ÖSTERREICH")["input_ids"]
    assert tokenizer()("CAPITAL")["input_ids"] != tokenizer()("capital")["input_ids"]


def test_the_vocabulary_keeps_its_size_and_trains_on_the_drawn_texts_alone() -> None:
    config = FreshBackboneConfig(vocabulary_size=320, tokenizer_texts=2)
    trained = train_tokenizer(config, (text for text in ["aab aab"] * 2 + ["zzq zzq"] * 2))
    assert len(trained) <= 320
    assert train_tokenizer(config, ["aab aab"] * 2).get_vocab().keys() != trained.get_vocab().keys()


def test_each_role_has_its_own_prefix_and_maximum_length() -> None:
    config = EncoderConfig(query_prefix="ask: ", passage_prefix="say: ", query_max_length=8, passage_max_length=12)
    queries = tokenize(tokenizer(), config, [TEXTS[6], "a"], "query")
    passages = tokenize(tokenizer(), config, [TEXTS[6], "a"], "passage")
    assert (queries["input_ids"].shape[1], passages["input_ids"].shape[1]) == (8, 12)
    assert queries["input_ids"][:, -1].tolist() == [2, 1]
    expected = tokenizer()("ask: a")["input_ids"]
    assert queries["input_ids"][1, : len(expected)].tolist() == expected[:8]
    assert tokenizer().decode(passages["input_ids"][1], skip_special_tokens=True).startswith("say: ")


def test_untruncated_lengths_count_prefix_and_special_tokens() -> None:
    config = EncoderConfig(query_max_length=4)
    lengths = untruncated_lengths(tokenizer(), config, TEXTS, "query")
    assert lengths == [len(tokenizer()("Query: " + text)["input_ids"]) for text in TEXTS]


def test_no_text_to_train_on_is_an_error() -> None:
    with pytest.raises(UserError, match="no text to train the tokenizer on"):
        train_tokenizer(FreshBackboneConfig(), [" "])


@pytest.mark.parametrize("text", [*SPECIAL_TOKENS, "<s>old</s> price", "a <mask> b", "</s><pad>"])
def test_a_fresh_tokenizer_takes_what_spells_a_special_token_for_text(text: str) -> None:
    config = EncoderConfig(query_prefix="", query_max_length=64)
    ids = tokenize(tokenizer(), config, [text], "query")["input_ids"][0].tolist()
    assert (ids[0], ids[-1]) == (0, 2)
    assert set(ids[1:-1]).isdisjoint(range(len(SPECIAL_TOKENS)))
    assert tokenizer().decode(ids[1:-1]).replace("▁", " ").split() == text.split()


@pytest.mark.parametrize(
    ("prefix", "text"), [("", "\u200b"), ("ask: ", "\u200b\u200b"), ("", "<pad>"), ("ask: ", "</s>")]
)
def test_a_text_that_a_tokenizer_leaves_nothing_of_is_named(prefix: str, text: str) -> None:
    drops = copy.deepcopy(tokenizer())
    drops.split_special_tokens = False  # as published tokenizers are
    steps = [normalizers.Replace("\u200b", ""), drops.backend_tokenizer.normalizer]
    drops.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    config = EncoderConfig(passage_prefix=prefix, passage_max_length=64)
    with pytest.raises(UserError, match=f"the passage '{re.escape(ascii(text)[1:-1])}' has no token but special ones"):
        tokenize(drops, config, ["a text", text], "passage")
    assert suspected_tokenless(drops, ["a text", text, "…", "3"]) == [text, "…"]
    refuse_tokenless(drops, ["…", f"a {text}"], "passage")


def test_a_prefix_that_leaves_no_room_for_a_text_is_refused_with_the_options_that_mend_it() -> None:
    taken = len(tokenizer()("ask: ")["input_ids"])
    config = EncoderConfig(query_prefix="ask: ", query_max_length=taken + FEWEST_TEXT_TOKENS - 1)
    with pytest.raises(
        UserError, match=r"model\.query_prefix 'ask: ' and the special tokens take .* leave 3 for the text"
    ):
        check_room(tokenizer(), config)
    check_room(tokenizer(), replace(config, query_max_length=taken + FEWEST_TEXT_TOKENS))


def test_a_tokenizer_without_a_compiled_part_gives_the_same_features_as_its_own_call(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh:"]))
    slow = BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type="character"
    )
    config = EncoderConfig(query_prefix="a: ", query_max_length=8)
    features = tokenize(slow, config, ["bad cab face", "e"], "query")
    expected = slow(["a: bad cab face", "a: e"], padding=True, truncation=True, max_length=8, return_tensors="pt")
    assert {name: tensor.tolist() for name, tensor in features.items()} == {
        name: expected[name].tolist() for name in features
    }
    assert untruncated_lengths(slow, config, ["bad cab face"], "query") == [2 + 2 + 10]
    with pytest.raises(UserError, match="the query '' has no token"):
        tokenize(slow, config, [""], "query")
