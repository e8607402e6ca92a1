"""The architectures that may be run without padding: only those for which it is known to change nothing.

One is known when its layers pass every keyword on to transformers' attention interface, mix tokens nowhere else, and
take positions from outside; a test compares each with its padded self in float64, vectors and gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transformers import PretrainedConfig

from hybatch.models.attention import has_windows_both_ways

Positions = Literal["from 0", "behind padding id"]


@dataclass(frozen=True)
class Architecture:
    """How an architecture counts positions.

    Attributes:
        positions: `from 0`, or `behind padding id`: XLM-R and its kin begin one behind the padding id, and leave out
            tokens that have this id.
    """

    positions: Positions = "from 0"


_BEHIND_PADDING = Architecture("behind padding id")

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(),
    "camembert": _BEHIND_PADDING,
    "distilbert": Architecture(),
    "electra": Architecture(),
    "gemma": Architecture(),
    "gemma3_text": Architecture(),
    "gte": Architecture(),
    "jina_embeddings_v3": Architecture(),
    "llama": Architecture(),
    "mistral": Architecture(),
    "modernbert": Architecture(),
    "qwen2": Architecture(),
    "qwen3": Architecture(),
    "roberta": _BEHIND_PADDING,
    "xlm-roberta": _BEHIND_PADDING,
    "xlm-roberta-xl": _BEHIND_PADDING,
}
"""`model_type` -> how it counts; what is not here is padded."""


def why_padded(config: PretrainedConfig) -> str | None:
    """Why a backbone of this configuration cannot go without padding; None where it can."""
    if config.model_type not in ARCHITECTURES:
        return f"the architecture {config.model_type!r} is not among those that are known to go without padding"
    if has_windows_both_ways(config):
        return "its sliding windows, causal by design, were opened to both sides"
    if not config.num_hidden_layers:
        return "a backbone without layers has no use for it"
    return None
