from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.models import EncoderConfig, FreshBackboneConfig
from hybatch.models.tokenization import SPECIAL_TOKENS, tokenize, train_tokenizer, untruncated_lengths
from tests.models.backbones import TEXTS, tokenizer


def test_the_same_texts_give_the_same_tokenizer_and_ties_between_rare_characters_break_alike() -> None:
    config = FreshBackboneConfig(vocabulary_size=320)
    rare = ["".join(map(chr, range(0x4E00 + start, 0x4E00 + start + 50))) for start in range(0, 1000, 50)]
    first, second = (train_tokenizer(config, TEXTS + rare).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=30))
def test_every_text_comes_back_through_byte_fallback(text: str) -> None:
    ids = tokenizer()(text)["input_ids"]
    assert SPECIAL_TOKENS.index("<unk>") not in ids
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
