"""Gather the parts of an encoder from a folder, or make them fresh; settle what its configuration leaves open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from tokenizers import normalizers
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hybatch.errors import UserError
from hybatch.models.backbone.fresh import fresh_backbone, fresh_config
from hybatch.models.backbone.reading import (
    read_backbone,
    read_config,
    read_tokenizer,
    settle_vocabulary,
    weights_lack,
)
from hybatch.models.backbone.traits import max_positions, unused_parameters
from hybatch.models.config import EncoderConfig, PoolingMode, Role
from hybatch.models.folder.debiased import Debiased
from hybatch.models.folder.finding import check_holds_model, locate
from hybatch.models.folder.json_files import read_object
from hybatch.models.folder.layout import Layout, read_layout
from hybatch.models.folder.prompts import further_prompts, passage_prompt, query_prompt
from hybatch.models.head import Dense
from hybatch.models.language_offsets import LanguageOffsets
from hybatch.models.laser import LaserNetwork, LaserTokenizer, holds_laser, read_laser
from hybatch.models.lora.targets import check_targets
from hybatch.models.lora.updates import import_peft
from hybatch.models.named import LABSE, named_model
from hybatch.models.tokenization import check_room, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LABSE_VOCABULARY = 501153
# Length of a text where neither the folder nor a table of positions says more.
_DEFAULT_LENGTH = 512
# LASER cuts no text, however long.
_UNCUT = 2**31 - 1


class Parts(NamedTuple):
    """What an encoder is put together from; the configuration's pooling and head are settled."""

    config: EncoderConfig
    backbone: PreTrainedModel | LaserNetwork
    tokenizer: PreTrainedTokenizerBase | LaserTokenizer
    head: list[Dense]
    offsets: LanguageOffsets | None = None
    debiased: Debiased | None = None
    prompts: dict[str, str] | None = None
    card: str | None = None
    dimensions: tuple[int, ...] = ()


class _Habits(NamedTuple):
    pooling: PoolingMode
    head: Literal["none", "pooler"]


def check_backbone(config: EncoderConfig) -> None:
    """Check, before a corpus is read, that the backbone is there, or that a fresh one can be configured.

    A model of the hub is fetched.

    Raises:
        UserError: the folder or hub model is missing or holds no model, its prefixes leave no room for a text, it lacks
            layers that are to have updates, or the architecture refuses the settings.
    """
    if config.fresh is None:
        assert config.backbone is not None
        layout = read_layout(locate(config.backbone))
        _refuse_to_train(config, layout)
        folder = layout.backbone_folder
        check_holds_model(folder)
        read_config(folder, attention=config.attention)
        check_room(read_tokenizer(folder), config)
        if config.lora is not None:
            import_peft()
            check_targets(folder, config.lora)
    else:
        _fresh_config(config)


def embedding_width(config: EncoderConfig) -> int:
    """How wide the embeddings of the encoder will be, found out without its weights.

    Raises:
        UserError: as `check_backbone`.
    """
    if config.fresh is not None:
        width = int(_fresh_config(config).hidden_size)
    else:
        assert config.backbone is not None
        layout = read_layout(locate(config.backbone))
        if layout.head and config.head in (None, "dense"):
            return layout.head[-1].linear.out_features
        width = int(read_config(layout.backbone_folder).hidden_size)
    return config.head_size if config.head == "dense" and config.head_size is not None else width


def pretrained_parts(config: EncoderConfig) -> Parts:
    """Read a backbone to be trained further, under a configuration that wins over the folder's prefixes and lengths."""
    assert config.backbone is not None
    folder = locate(config.backbone)
    layout = read_layout(folder)
    _refuse_to_train(config, layout)
    return _folder_parts(config, layout)


def _refuse_to_train(config: EncoderConfig, layout: Layout) -> None:
    if layout.offsets is not None:
        raise UserError(
            f"model.backbone {config.backbone}: has offsets of languages (hybatch debias), which fit the vectors of "
            "its present weights only; train the model that it was made of, and debias that afterwards"
        )
    path = layout.backbone_folder / "config.json"
    quantised = read_object(path).get("quantization_config") if path.is_file() else None
    if isinstance(quantised, dict) and quantised:
        method = quantised.get("quant_method", "in a way that it does not name")
        raise UserError(
            f"model.backbone {config.backbone}: its weights are quantised ({method}), which is not trained on, with or "
            "without model.lora: gradients through rounded weights, and updates merged into them, are not those of the "
            "model that is saved; take the weights that it was made of"
        )


def saved_parts(path_or_hub_id: str) -> Parts:
    """Read a finished encoder as its folder describes it: prefixes, lengths, pooling and head are the folder's own."""
    folder = locate(path_or_hub_id)
    if holds_laser(folder):
        return _laser_parts(folder)
    layout = read_layout(folder)
    if layout.config is not None:
        settled = replace(layout.config, pooling=None, head=None, head_size=None)
        # What concerns training, and how rather than what is computed, is not the model's.
        config = replace(settled, attn_implementation=None, dropout=None, unpad="auto", lora=None)
        parts = _folder_parts(config, layout)
        further = further_prompts(layout.prompts)
        return parts._replace(
            offsets=layout.offsets,
            debiased=layout.debiased,
            prompts=further,
            card=layout.card,
            dimensions=layout.dimensions,
        )
    named = named_model(path_or_hub_id)
    config = EncoderConfig(
        backbone=path_or_hub_id,
        query_prefix=query_prompt(layout.prompts) or (named and named.query_prefix) or "",
        passage_prefix=passage_prompt(layout.prompts) or (named and named.passage_prefix) or "",
    )
    config, backbone, tokenizer, head, *_ = _folder_parts(config, layout, check_lengths=False)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    made_for = None if named is None else named.max_length
    said = max(filter(None, (layout.query_max_length, layout.passage_max_length)), default=None)
    longest = min(tokenizer.model_max_length, max_positions(backbone) or made_for or said or _DEFAULT_LENGTH)
    config.query_max_length = min(layout.query_max_length or made_for or longest, longest)
    config.passage_max_length = min(layout.passage_max_length or made_for or longest, longest)
    check_room(tokenizer, config, where=path_or_hub_id)
    return Parts(config, backbone, tokenizer, head, layout.offsets, layout.debiased, further_prompts(layout.prompts))


def _laser_parts(folder: Path) -> Parts:
    config = EncoderConfig(
        backbone=str(folder),
        pooling="max",
        head="none",
        query_prefix="",
        passage_prefix="",
        query_max_length=_UNCUT,
        passage_max_length=_UNCUT,
    )
    return Parts(config, *read_laser(folder), [])


def _folder_parts(config: EncoderConfig, layout: Layout, *, check_lengths: bool = True) -> Parts:
    folder = layout.backbone_folder
    check_holds_model(folder)
    _check_against_folder(config, layout)
    tokenizer = read_tokenizer(folder)
    if layout.lowercase:
        _lower_case(tokenizer)
    backbone, missing = read_backbone(
        folder, config.attn_implementation, dropout=config.dropout, attention=config.attention
    )
    if missing and (lost := missing - unused_parameters(backbone)):
        raise weights_lack(folder, lost)
    settle_vocabulary(tokenizer, backbone, folder)
    if check_lengths:
        check_positions(config, backbone)
        check_room(tokenizer, config)
    habits = _habits(config, backbone)
    use_pooler = config.head == "pooler" or (
        config.head is None and layout.pooling is None and config.pooling in (None, "cls") and habits.head == "pooler"
    )
    if use_pooler:
        head = [_pooler_as_dense(backbone, missing, folder)]
    elif config.head == "none":
        head = []
    elif config.head == "dense" and not layout.head:
        head = [_new_dense(config, backbone)]
    else:
        head = layout.head
    if config.lora is not None and (use_pooler or layout.head):
        for layer in head:
            layer.requires_grad_(False)
    pooling = config.pooling or layout.pooling or ("cls" if use_pooler else habits.pooling)
    settled = replace(config, pooling=pooling, head="pooler" if use_pooler else "dense" if head else "none")
    return Parts(settled, backbone, tokenizer, head)


def _habits(config: EncoderConfig, backbone: PreTrainedModel) -> _Habits:
    """What the backbone is used to; LaBSE is known by its vocabulary too, whatever its folder is called."""
    name = str(config.backbone)
    named = named_model(name)
    is_bert = backbone.config.model_type == "bert"
    if is_bert and (backbone.config.vocab_size == _LABSE_VOCABULARY or "labse" in name.lower()):
        named = LABSE
    if named is None or (named is LABSE and not is_bert):
        return _Habits("mean", "none")
    return _Habits(named.pooling, named.head)


def _check_against_folder(config: EncoderConfig, layout: Layout) -> None:
    if layout.pooling is not None and config.pooling not in (None, layout.pooling):
        raise UserError(
            f"model.pooling is {config.pooling!r}, but {config.backbone} was made with {layout.pooling!r} "
            "(1_Pooling/config.json): leave the option out, or start from a folder without modules.json"
        )
    if config.head == "pooler" and layout.head:
        raise UserError(
            f"model.head is 'pooler', but {config.backbone} brings a dense layer of its own, and one must not follow "
            "the other: leave the option out"
        )
    if config.head_size is not None and layout.head and layout.head[-1].linear.out_features != config.head_size:
        raise UserError(
            f"model.head_size is {config.head_size}, but the dense layer of {config.backbone} has "
            f"{layout.head[-1].linear.out_features}: leave the option out"
        )


def _pooler_as_dense(backbone: PreTrainedModel, missing: set[str], folder: Path) -> Dense:
    """A dense layer started from BERT's pooler, which is one: linear and tanh over the first token."""
    pooler = getattr(getattr(backbone, "pooler", None), "dense", None)
    lost = [name for name in missing if name.startswith("pooler.")]
    if not isinstance(pooler, nn.Linear) or lost:
        raise UserError(f"{folder}: holds no pooler to start the head from; use model.head 'dense' or 'none'")
    dense = Dense(pooler.in_features, pooler.out_features)
    dense.linear.load_state_dict(pooler.state_dict())
    return dense


def _new_dense(config: EncoderConfig, backbone: PreTrainedModel) -> Dense:
    width = backbone.config.hidden_size
    return Dense(width, config.head_size or width)


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: lowers the case of every text (do_lower_case), which is not supported with a "
            f"tokenizer that is Python alone ({type(tokenizer).__name__})"
        )
    backend = tokenizer.backend_tokenizer
    steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])]
    backend.normalizer = normalizers.Sequence(steps)


def check_positions(config: EncoderConfig, backbone: PreTrainedModel) -> None:
    """Check the maximum lengths against the backbone's table of positions.

    Raises:
        UserError: a maximum length is beyond it.
    """
    limit = max_positions(backbone)
    roles: tuple[Role, Role] = ("query", "passage")
    for role in roles:
        length = config.max_length(role)
        if limit is not None and length > limit:
            raise UserError(f"model.{role}_max_length is {length}: the backbone has positions for only {limit} tokens")


def fresh_parts(config: EncoderConfig, texts: Iterable[str]) -> Parts:
    """Train a tokenizer and make a backbone of random weights."""
    assert config.fresh is not None
    if config.head == "pooler":
        raise UserError("model.head 'pooler' needs a pretrained BERT; use 'dense' with model.fresh")
    tokenizer = train_tokenizer(config.fresh, texts)
    backbone = fresh_backbone(
        config.fresh,
        vocabulary_size=len(tokenizer),
        max_positions=_fresh_positions(config),
        attn_implementation=config.attn_implementation,
        attention=config.attention,
    )
    check_positions(config, backbone)
    check_room(tokenizer, config)
    head = [_new_dense(config, backbone)] if config.head == "dense" else []
    settled = replace(config, pooling=config.pooling or "mean", head=config.head or "none")
    return Parts(settled, backbone, tokenizer, head)


def _fresh_config(config: EncoderConfig) -> PretrainedConfig:
    """With as many tokens as the tokenizer may have at most."""
    assert config.fresh is not None
    return fresh_config(
        config.fresh,
        vocabulary_size=config.fresh.vocabulary_size,
        max_positions=_fresh_positions(config),
        attention=config.attention,
    )


def _fresh_positions(config: EncoderConfig) -> int:
    assert config.fresh is not None
    return config.fresh.max_positions or max(config.query_max_length, config.passage_max_length)


def seeded_parts(config: EncoderConfig, *, seed: int, texts: Iterable[str] | None) -> Parts:
    """The parts that a configuration asks for; every random weight comes from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if config.fresh is None:
            return pretrained_parts(config)
        if texts is None:
            raise UserError("model.fresh: training its tokenizer needs texts")
        return fresh_parts(config, texts)
