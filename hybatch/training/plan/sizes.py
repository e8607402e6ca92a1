"""Count an encoder's parameters from its configuration, on torch's meta device: no weights are read or made."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig

from hybatch.errors import UserError
from hybatch.models import EncoderConfig
from hybatch.models.attention import turned
from hybatch.models.backbone.building import backbone_without_values, dropouts
from hybatch.models.backbone.fresh import fresh_config
from hybatch.models.backbone.traits import unused_parameters
from hybatch.models.config import PoolingMode
from hybatch.models.flops import EncoderFlops, encoder_flops
from hybatch.models.folder.layout import Layout, read_layout
from hybatch.models.head import Dense
from hybatch.models.lora.targets import target_layers
from hybatch.models.lora.updates import add_updates
from hybatch.models.named import LABSE, NamedModel, hub_id, named_model
from hybatch.paths import expand_path
from hybatch.training.plan.published import published_config, published_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class EncoderSizes:
    """What memory and time depend on.

    Attributes:
        config: of the backbone.
        pooling: how its hidden states become one vector.
        parameters: all, frozen ones included.
        learning: those that have gradients and moments.
        layer: parameters of the largest layer.
        outside: parameters outside the layers: embedding tables, head.
        learning_layer: those of the largest layer that learn.
        learning_outside: those outside the layers that learn.
        width: of the embedding.
        flops: its arithmetic.
        lora_layers: names of the layers that have an update of low rank beside them.
    """

    config: PretrainedConfig
    pooling: PoolingMode
    parameters: int
    learning: int
    layer: int
    outside: int
    learning_layer: int
    learning_outside: int
    width: int
    flops: EncoderFlops
    lora_layers: tuple[str, ...] = ()


def encoder_sizes(config: EncoderConfig) -> EncoderSizes:
    """Count the encoder that a configuration describes.

    A fresh backbone is counted with `vocabulary_size` tokens: a tokenizer trained on few texts may end with fewer.

    Raises:
        UserError: the configuration of the backbone is neither in a folder, nor in the table of published ones, nor to
            be had from the hub; or it cannot be built, or its attention does not turn.
    """
    layout = Layout(backbone_folder=Path())
    if config.fresh is not None:
        positions = config.fresh.max_positions or max(config.query_max_length, config.passage_max_length)
        backbone_config = fresh_config(
            config.fresh,
            vocabulary_size=config.fresh.vocabulary_size,
            max_positions=positions,
            attention=config.attention,
        )
    else:
        assert config.backbone is not None
        folder = Path(expand_path(config.backbone, "model"))
        if folder.is_dir():
            layout = read_layout(folder)
        # A folder that is yet to be made is planned by its name.
        known = named_model(config.backbone)
        name = hub_id(config.backbone) if known is None else known.hub_id
        backbone_config = _read_config(name, layout if folder.is_dir() else None)
        if known is not None and not folder.is_dir():
            widths = (backbone_config.hidden_size, *known.dense)
            layout.head = [Dense(*ends, bias=False, activation=nn.Identity) for ends in pairwise(widths)]
        if config.attention is not None:
            backbone_config = turned(backbone_config, config.attention)
        if config.dropout is not None:
            backbone_config.update(dropouts(backbone_config, config.dropout))
    with FakeTensorMode():
        backbone = backbone_without_values(backbone_config, config.attn_implementation)
        unused = unused_parameters(backbone)
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name not in unused)
        head = _head(config, backbone_config, layout)
        lora_layers: tuple[str, ...] = ()
        if config.lora is not None:
            lora_layers = target_layers(backbone, config.lora.targets, unused)
            add_updates(backbone, config.lora, lora_layers)
            head.requires_grad_(config.head == "dense" and not layout.head)
        return replace(_count(config, backbone, head, layout, unused), lora_layers=lora_layers)


def _read_config(backbone: str, layout: Layout | None) -> PretrainedConfig:
    if layout is None and (known := published_config(backbone)) is not None:
        return known
    try:
        return AutoConfig.from_pretrained(
            backbone if layout is None else layout.backbone_folder, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{backbone}: its config.json cannot be read ({str(error).splitlines()[0]}); give a folder that holds one, "
            f"go online, or plan with one of {', '.join(published_names())}"
        ) from error


def _head(config: EncoderConfig, backbone: PretrainedConfig, layout: Layout) -> nn.ModuleList:
    """The dense layers behind the pooling, of the right size."""
    named = _named(config)
    if layout.head and config.head != "none":
        linears = [dense.linear for dense in layout.head]
        sizes = [(linear.in_features, linear.out_features, linear.bias is not None) for linear in linears]
    elif config.head in ("dense", "pooler") or (config.head is None and named is not None and named.head == "pooler"):
        sizes = [(backbone.hidden_size, config.head_size or backbone.hidden_size, True)]
    else:
        sizes = []
    return nn.ModuleList(nn.Linear(before, after, bias=bias) for before, after, bias in sizes)


def _named(config: EncoderConfig) -> NamedModel | None:
    name = str(config.backbone)
    return LABSE if "labse" in name.lower() else named_model(name)


def _count(
    config: EncoderConfig, backbone: PreTrainedModel, head: nn.ModuleList, layout: Layout, unused: Set[str]
) -> EncoderSizes:
    everything = [*backbone.parameters(), *head.parameters()]
    parameters, learning = _numbers(everything)
    lists = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    layers = [_numbers(layer.parameters()) for layer in (lists[0] if lists else [])]
    named = _named(config)
    pooling = config.pooling or layout.pooling or ("mean" if named is None else named.pooling)
    return EncoderSizes(
        config=backbone.config,
        pooling=pooling,
        parameters=parameters,
        learning=learning,
        layer=max((number for number, _ in layers), default=0),
        outside=parameters - sum(number for number, _ in layers),
        learning_layer=max((number for _, number in layers), default=0),
        learning_outside=learning - sum(number for _, number in layers),
        width=head[-1].out_features if len(head) else backbone.config.hidden_size,  # type: ignore[arg-type]
        flops=encoder_flops(backbone, head, unused),
    )


def _numbers(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """How many there are, and how many of them learn."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in parameters]
    return sum(number for number, _ in counts), sum(number for number, learns in counts if learns)
