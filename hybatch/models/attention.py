"""Decoders whose attention can be turned: each token sees the tokens before it, or all tokens of its text.

The direction stands in the backbone's own configuration, under the names that transformers gives it, so that a folder
is read alike by hybatch, sentence-transformers and transformers.
"""

from __future__ import annotations

import copy

from transformers import PretrainedConfig

from hybatch.errors import UserError
from hybatch.models.config import AttentionDirection

IS_CAUSAL = ("gemma", "llama", "mistral", "qwen2", "qwen3")
"""`model_type` of decoders that obey `is_causal` in their configuration."""
OWN_FIELD = ("gemma3_text",)
"""`model_type` of those that have `use_bidirectional_attention`, as EmbeddingGemma uses it."""


def turned(config: PretrainedConfig, direction: AttentionDirection) -> PretrainedConfig:
    """The configuration with the attention asked for.

    Under `bidirectional` every token sees all of its text: sliding windows of Mistral and Qwen are taken away. Gemma 3
    keeps those of its local layers, as many tokens wide, to both sides.

    Raises:
        UserError: the architecture is not among those that are known to obey.
    """
    if config.model_type in OWN_FIELD:
        both_ways = direction == "bidirectional"
        if bool(config.use_bidirectional_attention) == both_ways:
            return config
        # Built anew: the constructor converts the window, whose ends count otherwise to both sides.
        return type(config).from_dict({**config.to_dict(), "use_bidirectional_attention": both_ways})
    if config.model_type not in IS_CAUSAL:
        raise UserError(
            f"model.attention: the architecture {config.model_type!r} is not among those whose attention is known to "
            f"turn ({', '.join(sorted((*IS_CAUSAL, *OWN_FIELD)))}): leave the option out, or take one of them"
        )
    changed = copy.deepcopy(config)
    changed.is_causal = direction == "causal"
    if not changed.is_causal:
        _take_windows_away(changed)
    return changed


def _take_windows_away(config: PretrainedConfig) -> None:
    for name, whole in (("sliding_window", None), ("use_sliding_window", False)):
        if hasattr(config, name):
            setattr(config, name, whole)
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * len(config.layer_types)


def has_windows_both_ways(config: PretrainedConfig) -> bool:
    """Whether a causal architecture was made bidirectional elsewhere and kept its sliding windows.

    transformers counts their ends otherwise then than in every other layer with a window.
    """
    return (
        config.model_type in IS_CAUSAL
        and not getattr(config, "is_causal", True)
        and getattr(config, "sliding_window", None) is not None
        and "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    )
