"""Tokenizers: trained on a corpus for a fresh backbone, and applied with prefix and maximum length."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, get_args

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hybatch.errors import UserError
from hybatch.models.config import EncoderConfig, FreshBackboneConfig, Role
from hybatch.models.laser import LaserTokenizer

# In the order of XLM-R's vocabulary, whose padding id 1 some architectures count their positions from.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
PAD_ID = SPECIAL_TOKENS.index("<pad>")
_SPACE = "▁"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# A quarter of the vocabulary may be single characters; the rarer ones are spelt in bytes.
_ALPHABET_SHARE = 4
_LONGEST_TOKEN = 16
FEWEST_TEXT_TOKENS = 4
"""Tokens of a text that prefix and special tokens must leave room for."""
# No text is longer: the tokenizers take 32 bits.
_UNCUT = 2**31 - 1
# The classes that `add_eos_token` in tokenizer_config.json has always been a setting of.
_ENDING_CLASSES = ("GemmaTokenizer", "GemmaTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast")


def tokenize(
    tokenizer: PreTrainedTokenizerBase | LaserTokenizer, config: EncoderConfig, texts: Sequence[str], role: Role
) -> dict[str, Tensor]:
    """Put the prefix before each text, cut it to its maximum length and pad to the longest.

    Returns:
        `input_ids`, `attention_mask` and whatever else the backbone takes, int64 [B, T] on the CPU.

    Raises:
        UserError: a text has no token of its own (see `refuse_tokenless`).
    """
    prefixed = [config.prefix(role) + text for text in texts]
    if isinstance(tokenizer, LaserTokenizer):
        rows = tokenizer.encode(prefixed, config.max_length(role))
        return _padded({"input_ids": rows}, {"input_ids": tokenizer.pad_token_id})
    columns = _encoded(tokenizer, prefixed, config.max_length(role))
    counts_B = _own_tokens(tokenizer, columns["input_ids"])
    (prefix_count,) = _own_tokens(tokenizer, _encoded(tokenizer, [config.prefix(role)], _UNCUT)["input_ids"])
    # Only those that are hardly longer than the prefix are looked at alone.
    refuse_tokenless(tokenizer, [texts[i] for i in np.flatnonzero(counts_B <= prefix_count).tolist()], role)
    return _padded(columns, {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id})


def refuse_tokenless(tokenizer: PreTrainedTokenizerBase | LaserTokenizer, texts: Sequence[str], role: Role) -> None:
    """Refuse texts of which the tokenizer leaves nothing: a zero-width space, or a special token and nothing else.

    An encoder would give them the vector of its prefix, or zeros, or fail on a batch of length 0.

    Raises:
        UserError: names the first such text.
    """
    if isinstance(tokenizer, LaserTokenizer) or not texts:
        return
    counts = _own_tokens(tokenizer, _encoded(tokenizer, texts, _UNCUT)["input_ids"])
    for place in np.flatnonzero(counts == 0)[:1].tolist():
        raise UserError(
            f"the {role} {texts[place]!a} has no token but special ones, so that there is nothing to encode: "
            "take it out of the data, or give it a text"
        )


def suspected_tokenless(tokenizer: PreTrainedTokenizerBase | LaserTokenizer, texts: Iterable[str]) -> list[str]:
    """Those texts that hold no letter or digit outside special tokens: few enough to look at before long work."""
    names = [] if isinstance(tokenizer, LaserTokenizer) else tokenizer.all_special_tokens
    special = re.compile("|".join(map(re.escape, names)) or "(?!)")
    beginnings = "".join({name[:1] for name in names})
    # Nearly every text begins with a letter, and few hold what a special token begins with: these are settled at once.
    return [
        text
        for text in texts
        if not (text[:1].isalnum() and text[0] not in beginnings) and not any(map(str.isalnum, special.sub("", text)))
    ]


def end_texts(tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]) -> None:
    """Append the end token to every text where the tokenizer's own settings say so.

    transformers 5 passes `add_eos_token` over where there is a tokenizer.json, whose own template may be without: the
    last token, which decoders such as e5-mistral put the text's vector in, would be one of the text.

    Args:
        settings: of tokenizer_config.json.
    """
    if not (tokenizer.is_fast and settings.get("add_eos_token") and settings.get("tokenizer_class") in _ENDING_CLASSES):
        return
    special = tokenizer.backend_tokenizer.encode("").ids
    if tokenizer.eos_token_id is not None and special[-1:] != [tokenizer.eos_token_id]:
        tokenizer.add_bos_token = special[:1] == [tokenizer.bos_token_id]
        tokenizer.add_eos_token = True


def check_room(
    tokenizer: PreTrainedTokenizerBase | LaserTokenizer, config: EncoderConfig, *, where: str = "model"
) -> None:
    """Check that prefix and special tokens leave room for a text within the maximum length.

    Args:
        where: before the options' names in the message.

    Raises:
        UserError: they leave fewer than `FEWEST_TEXT_TOKENS`.
    """
    if isinstance(tokenizer, LaserTokenizer):
        return
    for role in get_args(Role):
        (length,) = untruncated_lengths(tokenizer, config, [""], role)
        room = config.max_length(role) - length
        if room < FEWEST_TEXT_TOKENS:
            raise UserError(
                f"{where}.{role}_prefix {config.prefix(role)!r} and the special tokens take {length} of the "
                f"{config.max_length(role)} tokens of {where}.{role}_max_length and leave {max(0, room)} for the text "
                f"(at least {FEWEST_TEXT_TOKENS} are needed): raise the length or shorten the prefix"
            )


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int) -> dict[str, list[list[int]]]:
    """Token ids, and token types where the backbone takes them, without padding."""
    typed = "token_type_ids" in tokenizer.model_input_names
    if not tokenizer.is_fast:
        tokens = tokenizer(list(texts), padding=False, truncation=True, max_length=longest, verbose=False)
        return {name: tokens[name] for name in ("input_ids", *(["token_type_ids"] if typed else []))}
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    backend.enable_truncation(longest, direction=tokenizer.truncation_side)
    # Not through the tokenizer's own call: its Python wrapping takes twice as long as the tokenising.
    encodings = backend.encode_batch_fast(list(texts))
    columns = {"input_ids": [encoding.ids for encoding in encodings]}
    if typed:
        columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
    return columns


def _own_tokens(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[B] int64: tokens of each row that are no special ones; an unknown token stands for a text and counts."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    special = np.isin(ids, [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
    sums = np.concatenate([[0], np.cumsum(~special)])
    ends = np.cumsum(lengths)
    return sums[ends] - sums[ends - lengths]


def _padded(columns: Mapping[str, Sequence[Sequence[int]]], padding: Mapping[str, int]) -> dict[str, Tensor]:
    """Rows of unequal length as [B, T] tensors, filled up on the right, and the mask of what is not padding."""
    lengths = np.fromiter(map(len, columns["input_ids"]), dtype=np.int64, count=len(columns["input_ids"]))
    mask_BT = np.arange(lengths.max(initial=0)) < lengths[:, None]
    tensors = {}
    for name, rows in columns.items():
        values_BT = np.full(mask_BT.shape, padding[name], dtype=np.int64)
        values_BT[mask_BT] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        tensors[name] = torch.from_numpy(values_BT)
    return tensors | {"attention_mask": torch.from_numpy(mask_BT.astype(np.int64))}


def untruncated_lengths(
    tokenizer: PreTrainedTokenizerBase, config: EncoderConfig, texts: Sequence[str], role: Role
) -> list[int]:
    """Tokens of each text, prefix and special tokens included, were nothing cut."""
    prefix = config.prefix(role)
    return list(map(len, _encoded(tokenizer, [prefix + text for text in texts], _UNCUT)["input_ids"]))


def lengths(
    tokenizer: PreTrainedTokenizerBase | LaserTokenizer, config: EncoderConfig, texts: Sequence[str], role: Role
) -> list[int]:
    """Tokens of each text as `tokenize` cuts it, prefix and special tokens included."""
    prefixed = [config.prefix(role) + text for text in texts]
    if isinstance(tokenizer, LaserTokenizer):
        return list(map(len, tokenizer.encode(prefixed, config.max_length(role))))
    return list(map(len, _encoded(tokenizer, prefixed, config.max_length(role))["input_ids"]))


def train_tokenizer(config: FreshBackboneConfig, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-pair vocabulary; the same texts in the same order give the same vocabulary.

    Texts are NFKC-normalised and their white space collapsed. Words are marked by a leading "▁" and split from
    punctuation; languages that do not write spaces are cut by the vocabulary alone. Characters outside the vocabulary
    are spelt in bytes, so that nothing is unknown. A text encodes as `<s> ... </s>`.

    Raises:
        UserError: there is no text.
    """
    sample = _draw(texts, config.tokenizer_texts)
    if not any(text.strip() for text in sample):
        raise UserError("model.fresh: there is no text to train the tokenizer on")
    learned = Tokenizer(models.BPE())
    learned.normalizer = _normalizer(lowercase=config.lowercase)
    learned.pre_tokenizer = _pre_tokenizer()
    alphabet = _alphabet(sample, config)
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size - len(SPECIAL_TOKENS) - len(_BYTES),
        min_frequency=2,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=_LONGEST_TOKEN,
        show_progress=False,
    )
    learned.train_from_iterator(sample, trainer)
    return _wrap(_with_bytes(learned))


def _draw(texts: Iterable[str], limit: int) -> list[str]:
    """A reservoir sample: every text has the same chance, however many there are."""
    generator = random.Random(0)
    sample: list[str] = []
    for index, text in enumerate(texts):
        if index < limit:
            sample.append(text)
        elif (place := generator.randrange(index + 1)) < limit:
            sample[place] = text
    return sample


def _normalizer(*, lowercase: bool) -> normalizers.Normalizer:
    steps = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if lowercase:
        steps.insert(1, normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(_SPACE), pre_tokenizers.Punctuation("isolated")])


def _alphabet(sample: Sequence[str], config: FreshBackboneConfig) -> list[str]:
    """The most frequent characters, counted here because the trainer breaks ties between rare ones at random."""
    counts: Counter[str] = Counter()
    for text in sample:
        text = unicodedata.normalize("NFKC", text)
        counts.update(text.lower() if config.lowercase else text)
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    kept = [character for character in ranked if not character.isspace() and character != _SPACE]
    return [_SPACE, *kept[: max(1, config.vocabulary_size // _ALPHABET_SHARE)]]


def _with_bytes(learned: Tokenizer) -> Tokenizer:
    """The same tokenizer with special and byte tokens before the learned ones."""
    model = json.loads(learned.to_str())["model"]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *_BYTES])}
    for token in sorted(model["vocab"], key=model["vocab"].__getitem__):
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = learned.normalizer
    tokenizer.pre_tokenizer = learned.pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")],
    )
    return tokenizer


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    start, pad, end, unknown, mask = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        cls_token=start,
        pad_token=pad,
        eos_token=end,
        sep_token=end,
        unk_token=unknown,
        mask_token=mask,
        split_special_tokens=True,  # a text that spells one is a text
        model_input_names=["input_ids", "attention_mask"],
    )
