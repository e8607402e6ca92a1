"""Tiny checkpoints in the file layouts that publishers chose, weights random."""

from __future__ import annotations

import json
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    BertConfig,
    BertForPreTraining,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from tests.models.backbones import TEXTS, backbone, tokenizer

WIDTH = 32
_SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_MODULES = "sentence_transformers.models."


def train_sentencepiece(file: Path, *, pieces: int = 150, **options: object) -> list[str]:
    """Train a small unigram model into a file; return its pieces in order."""
    lines = iter([text.lower() for text in TEXTS] * 20)
    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=stream,
            vocab_size=pieces,
            hard_vocab_limit=False,
            num_threads=1,
            minloglevel=2,
            **options,
        )
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [model.id_to_piece(index) for index in range(model.get_piece_size())]


def publish_mdeberta(folder: Path) -> DebertaV2ForMaskedLM:
    """As microsoft/mdeberta-v3-base: half precision, pytorch_model.bin under `deberta.`, spm.model as the tokenizer."""
    folder.mkdir()
    specials = {"control_symbols": ["[CLS]", "[SEP]", "[MASK]"], "pad_id": 0, "pad_piece": "[PAD]"}
    numbers = {"unk_id": 3, "unk_piece": "[UNK]", "bos_id": -1, "eos_id": -1}
    pieces = train_sentencepiece(folder / "spm.model", **specials, **numbers)
    config = DebertaV2Config(
        **_SIZES,
        vocab_size=len(pieces) + 8,
        max_position_embeddings=64,
        position_biased_input=False,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
        initializer_range=0.2,
    )
    torch.manual_seed(1)
    model = DebertaV2ForMaskedLM(config).half().eval()
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    return model.float()


def publish_mbert(folder: Path) -> BertForPreTraining:
    """As google-bert/bert-base-multilingual-cased: `bert.`, `cls.`, LayerNorm's old names gamma and beta, vocab.txt."""
    folder.mkdir()
    letters = sorted({letter for text in TEXTS for letter in text if not letter.isspace()})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "model_max_length": 64}')
    config = BertConfig(**_SIZES, vocab_size=len(words), max_position_embeddings=64, initializer_range=0.2)
    torch.manual_seed(2)
    model = BertForPreTraining(config).eval()
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        for new, before in old.items():
            name = name.replace(new, before)
        weights[name] = weight.clone()
    config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def publish_xlmr(folder: Path) -> XLMRobertaForMaskedLM:
    """As FacebookAI/xlm-roberta-base: a masked language model, the encoder under `roberta.`, without a pooler."""
    folder.mkdir()
    sizes = {**_SIZES, "vocab_size": len(tokenizer()), "max_position_embeddings": 66, "type_vocab_size": 1}
    torch.manual_seed(3)
    model = XLMRobertaForMaskedLM(XLMRobertaConfig(**sizes, pad_token_id=1, initializer_range=0.2)).eval()
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def publish_sentence_encoder(folder: Path, architecture: str, pooling: str, *, dense: bool = False) -> None:
    """As LaBSE, E5 and BGE-M3: the backbone in the folder itself, 1_Pooling, LaBSE's 2_Dense, Normalize; no prompts."""
    folder.mkdir()
    backbone(architecture).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), "Normalize"]
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": _MODULES + kind}
        for index, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    _write(folder / "modules.json", modules)
    modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    if dense:
        activation = "torch.nn.modules.activation.Tanh"
        sizes = {"in_features": WIDTH, "out_features": WIDTH, "bias": True}
        _write(folder / "2_Dense" / "config.json", {**sizes, "activation_function": activation})
        generator = torch.Generator().manual_seed(4)
        weights = {"linear.weight": torch.randn(WIDTH, WIDTH, generator=generator) / 4}
        weights["linear.bias"] = torch.randn(WIDTH, generator=generator)
        torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
