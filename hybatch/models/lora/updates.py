"""The updates of low rank inside a backbone: put there, drawn, merged into it, written by themselves.

peft puts them there: a linear layer L becomes a module that holds it as `L.base_layer`, A as `L.lora_A.default` and B
as `L.lora_B.default`. The backbone stays the class that it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from hybatch.errors import UserError
from hybatch.models.folder.json_files import write_json
from hybatch.models.lora.config import LoraConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_FOLDER = "adapter"
"""Where a model's folder has the updates by themselves."""
_NAME = "default"
_FACTORS = ("lora_A", "lora_B")


def import_peft() -> Any:
    """Import peft, which is optional.

    Raises:
        UserError: it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError("model.lora needs peft, which is not installed: pip install 'hybatch[lora]'") from error
    return peft


def add_updates(backbone: PreTrainedModel, lora: LoraConfig, layers: Sequence[str]) -> None:
    """Freeze a backbone, whose tensors may be fake ones, and put an update of zeros beside each of `layers`."""
    # On the meta device, so without a draw from torch's generators; peft cannot move a fake tensor.
    with unset_fake_temporarily():
        import_peft().inject_adapter_in_model(_peft_config(lora, layers), backbone, _NAME, low_cpu_mem_usage=True)
    for layer in layers:
        beside: Any = backbone.get_submodule(layer)
        # Autocast casts for itself; peft would first make a copy in fp32 of what is bf16 already.
        beside.cast_input_dtype_enabled = False
        for factor in _FACTORS:
            linear = getattr(beside, factor)[_NAME]
            linear.weight = nn.Parameter(torch.zeros(linear.weight.shape))


@torch.no_grad()
def draw_updates(backbone: PreTrainedModel, layers: Sequence[str], seed: int) -> None:
    """Draw every A from the seed and the layer's name alone, uniformly within 1 / sqrt(in_features); every B is 0.

    So the first step starts from the backbone's own vectors. The distribution is that of LoRA's published code.
    """
    for layer in layers:
        down, up = (backbone.get_parameter(name) for name in _factors(layer))
        digest = hashlib.sha256(f"{seed} {layer}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        bound = 1 / math.sqrt(down.shape[1])
        down.uniform_(-bound, bound, generator=generator)
        up.zero_()


def merged(weights: Mapping[str, Tensor], lora: LoraConfig) -> dict[str, Tensor]:
    """The weights that the backbone would have had without updates beside its layers: W + alpha / rank B A, in fp32."""
    found = {}
    for name, weight in weights.items():
        if _is_factor(name):
            continue
        layer, _, own = name.rpartition(".base_layer.")
        if layer and own == "weight":
            down, up = (weights[factor].float() for factor in _factors(layer))
            weight = weight.float() + lora.scale * (up @ down)
        found[f"{layer}.{own}" if layer else name] = weight
    return found


def write_updates(
    folder: Path, weights: Mapping[str, Tensor], lora: LoraConfig, layers: Sequence[str], backbone: str
) -> None:
    """Write peft's own files, which `peft.PeftModel.from_pretrained` takes, into a new folder.

    Args:
        weights: of the whole backbone.
        backbone: folder or hub id that it was read from.
    """
    folder.mkdir()
    peft_config = _peft_config(lora, layers, base_model_name_or_path=backbone, inference_mode=True)
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in peft_config.to_dict().items()}
    write_json(folder / "adapter_config.json", settings)
    theirs = {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": weight.detach().contiguous()
        for name, weight in weights.items()
        if _is_factor(name)
    }
    save_file(theirs, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _peft_config(lora: LoraConfig, layers: Sequence[str], **more: Any) -> Any:
    return import_peft().LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(layers),
        bias="none",
        task_type="FEATURE_EXTRACTION",
        **more,
    )


def _factors(layer: str) -> tuple[str, str]:
    """Names of A, [rank, in_features], and B, [out_features, rank]."""
    down, up = (f"{layer}.{factor}.{_NAME}.weight" for factor in _FACTORS)
    return down, up


def _is_factor(name: str) -> bool:
    return any(f".{factor}.{_NAME}." in name for factor in _FACTORS)
