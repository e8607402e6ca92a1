"""What the backward pass keeps of an encoding, found by running the very architecture on tensors without memory.

n texts of a chunk, T tokens.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from transformers import PretrainedConfig

from hybatch.models.backbone.building import backbone_without_values
from hybatch.models.config import PoolingMode
from hybatch.models.lora.config import LoraConfig
from hybatch.models.lora.updates import add_updates
from hybatch.models.pooling import pool

_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


@dataclass(frozen=True, kw_only=True)
class ActivationProfile:
    """Bytes that a forward pass over texts of one length keeps for the backward pass.

    Attributes:
        layers: number of layers.
        layer_per_text: what one layer keeps of one text.
        outside_per_text: what embeddings, pooling and normalisation keep of one text.
        layer_fixed: what one layer keeps whatever the number of texts: copies of its weights in bf16.
        outside_fixed: likewise of the rest.
        widest_per_text: the largest single tensor kept of one text.
        hidden_per_text: the hidden states of one text, which gradient checkpointing keeps of a layer.
    """

    layers: int
    layer_per_text: float
    outside_per_text: float
    layer_fixed: float
    outside_fixed: float
    widest_per_text: float
    hidden_per_text: float

    def kept(self, texts: int, *, checkpointing: bool) -> float:
        """Bytes kept of so many texts; with gradient checkpointing the hidden states, and all of the layer at work."""
        outside = self.outside_fixed + texts * self.outside_per_text
        layer = self.layer_fixed + texts * self.layer_per_text
        if not checkpointing or not self.layers:
            return outside + self.layers * layer
        return outside + self.layers * texts * self.hidden_per_text + layer

    def passing(self, texts: int) -> float:
        """Bytes that live for one operation at most: the gradient of the widest tensor, before and after it."""
        return 2 * texts * self.widest_per_text


def profile_activations(
    config: PretrainedConfig,
    *,
    tokens: int,
    pooling: PoolingMode,
    bf16: bool,
    attn_implementation: str | None = None,
    lora: LoraConfig | None = None,
    lora_layers: Sequence[str] = (),
) -> ActivationProfile:
    """Profile texts of T = `tokens` tokens.

    One and two layers, two and four texts are run, and the sizes taken as linear in both. Dropout inside attention is
    taken out: the fused attention of GPUs draws it without keeping anything (on the CPU, torch keeps the T x T
    matrices of an attention with dropout).

    Args:
        lora_layers: of the whole backbone; a layer that is profiled has the updates that any layer has.
    """
    slim = copy.deepcopy(config)
    for name in _ATTENTION_DROPOUTS:
        if hasattr(slim, name) and attn_implementation != "eager":
            setattr(slim, name, 0.0)
    layers = int(config.num_hidden_layers)

    def run(depth: int) -> tuple[float, float, float]:
        (two, _), (four, widest) = (
            kept_bytes(_with_layers(slim, depth), texts, tokens, pooling, bf16, attn_implementation, lora, lora_layers)
            for texts in (2, 4)
        )
        per_text = (four - two) / 2
        return per_text, two - 2 * per_text, widest / 4

    one_text, one_fixed, widest = run(min(1, layers))
    two_text, two_fixed, widest = run(2) if layers else (one_text, one_fixed, widest)
    return ActivationProfile(
        layers=layers,
        layer_per_text=two_text - one_text,
        outside_per_text=2 * one_text - two_text,
        layer_fixed=two_fixed - one_fixed,
        outside_fixed=2 * one_fixed - two_fixed,
        widest_per_text=widest,
        # The residual stream stays fp32 under autocast where norms are fp32, as they are.
        hidden_per_text=4.0 * tokens * config.hidden_size,
    )


def _with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = layers
    if getattr(changed, "layer_types", None):
        changed.layer_types = changed.layer_types[:layers]
    return changed


def kept_bytes(
    config: PretrainedConfig,
    texts: int,
    tokens: int,
    pooling: PoolingMode,
    bf16: bool,
    attn_implementation: str | None,
    lora: LoraConfig | None = None,
    lora_layers: Sequence[str] = (),
) -> tuple[int, int]:
    """Run one forward pass on fake tensors.

    Returns:
        Bytes of all saved storages but the weights', and of the largest saved tensor of the texts.
    """
    with FakeTensorMode():
        backbone = backbone_without_values(config, attn_implementation).train()
        if lora is not None:
            add_updates(backbone, lora, _like(lora_layers, backbone))
        weights = {parameter.untyped_storage()._cdata for parameter in backbone.parameters()}
        # The tensors are held so that no later one can take over a storage's identity.
        kept: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            key = tensor.untyped_storage()._cdata
            if key not in weights:
                kept[key] = tensor
            return tensor

        ids = torch.full((texts, tokens), min(5, config.vocab_size - 1))
        mask = torch.ones_like(ids)
        hooks: Any = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            hidden = backbone(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
            embedding = F.normalize(pool(hidden, mask, pooling), dim=-1)
        assert embedding.requires_grad
        sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
        # Copies of weights, which do not grow with the texts, are not what is passed back from layer to layer.
        growing = [tensor.nbytes for tensor in kept.values() if tensor.ndim and tensor.shape[0] % texts == 0]
    return sum(sizes), max(growing, default=0)


def _like(layers: Sequence[str], backbone: nn.Module) -> list[str]:
    """The modules whose names differ from one of `layers` by the number of the layer alone."""

    def kind(name: str) -> str:
        return re.sub(r"\.\d+\.", ".*.", name)

    kinds = {kind(name) for name in layers}
    return [name for name, _ in backbone.named_modules() if kind(name) in kinds]
