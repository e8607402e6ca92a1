"""Tokenizers: trained on a corpus for a fresh backbone, and applied with prefix and maximum length."""

from __future__ import annotations

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

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


def tokenize(
    tokenizer: PreTrainedTokenizerBase | LaserTokenizer, config: EncoderConfig, texts: Sequence[str], role: Role
) -> dict[str, Tensor]:
    """Put the prefix before each text, cut it to its maximum length and pad to the longest.

    Returns:
        `input_ids`, `attention_mask` and whatever else the backbone takes, int64 [B, T] on the CPU.
    """
    prefixed = [config.prefix(role) + text for text in texts]
    if isinstance(tokenizer, LaserTokenizer):
        rows = tokenizer.encode(prefixed, config.max_length(role))
        return _padded({"input_ids": rows}, {"input_ids": tokenizer.pad_token_id})
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(config.max_length(role), direction=tokenizer.truncation_side)
    # Not through the tokenizer's own call: its Python wrapping takes twice as long as the tokenising.
    encodings = backend.encode_batch_fast(prefixed)
    columns = {"input_ids": [encoding.ids for encoding in encodings]}
    if "token_type_ids" in tokenizer.model_input_names:
        columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
    return _padded(columns, {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id})


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
    tokens = tokenizer([prefix + text for text in texts], padding=False, truncation=False, verbose=False)
    return [len(ids) for ids in tokens["input_ids"]]


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
        model_input_names=["input_ids", "attention_mask"],
    )
