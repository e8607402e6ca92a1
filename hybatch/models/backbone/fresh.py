"""A backbone with random weights: our settings under the names that its architecture knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from hybatch.errors import UserError
from hybatch.models.attention import turned
from hybatch.models.backbone.building import BUILD_ERRORS, build_backbone, dropouts, first_line, quiet_transformers
from hybatch.models.config import AttentionDirection, FreshBackboneConfig
from hybatch.models.tokenization import PAD_ID

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_INTERMEDIATE_NAMES = ("intermediate_size", "hidden_dim", "d_inner", "d_ff", "ffn_dim", "n_inner")


def fresh_config(
    fresh: FreshBackboneConfig,
    *,
    vocabulary_size: int,
    max_positions: int,
    attention: AttentionDirection | None = None,
) -> PretrainedConfig:
    """The architecture's own configuration with our settings.

    Raises:
        UserError: the architecture is unknown or refuses the settings, or its attention does not turn.
    """
    if fresh.architecture not in CONFIG_MAPPING:
        hint = _near(fresh.architecture, CONFIG_MAPPING)
        raise UserError(f"model.fresh.architecture {fresh.architecture!r} is unknown to transformers{hint}")
    with quiet_transformers():
        try:
            config = AutoConfig.for_model(
                fresh.architecture, **_settings(fresh, vocabulary_size=vocabulary_size, max_positions=max_positions)
            )
        except BUILD_ERRORS as error:
            raise _cannot_be_built(fresh, error) from error
    return config if attention is None else turned(config, attention)


def fresh_backbone(
    fresh: FreshBackboneConfig,
    *,
    vocabulary_size: int,
    max_positions: int,
    attn_implementation: str | None,
    attention: AttentionDirection | None = None,
) -> PreTrainedModel:
    """Make a backbone with random weights from torch's default generator.

    Raises:
        UserError: the architecture is unknown or cannot be built with these settings, or its attention does not turn.
    """
    config = fresh_config(fresh, vocabulary_size=vocabulary_size, max_positions=max_positions, attention=attention)
    try:
        return build_backbone(config, attn_implementation)
    except BUILD_ERRORS as error:
        raise _cannot_be_built(fresh, error) from error


def _cannot_be_built(fresh: FreshBackboneConfig, error: BaseException) -> UserError:
    return UserError(f"model.fresh: {fresh.architecture!r} cannot be built with these settings: {first_line(error)}")


def _settings(fresh: FreshBackboneConfig, *, vocabulary_size: int, max_positions: int) -> dict[str, Any]:
    """Our settings under the names that the architecture's configuration knows."""
    defaults = AutoConfig.for_model(fresh.architecture)
    heads = fresh.heads or max(1, fresh.width // 64)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": fresh.width,
        "num_hidden_layers": fresh.layers,
        "num_attention_heads": heads,
        # XLNet keeps it apart from the width that it must follow.
        "d_head": fresh.width // heads,
        # Two more than asked for: XLM-R and its kin count positions from the padding id + 1.
        "max_position_embeddings": max_positions + PAD_ID + 1,
        "bos_token_id": 0,
        "cls_token_id": 0,
        "pad_token_id": PAD_ID,
        "eos_token_id": 2,
        "sep_token_id": 2,
    }
    if getattr(defaults, "max_position_embeddings", None) == -1:
        # XLNet's way of saying that it has no limit, and takes none.
        del settings["max_position_embeddings"]
    known = {name: value for name, value in settings.items() if hasattr(defaults, name)}
    intermediate_size = fresh.intermediate_size or 4 * fresh.width
    known |= {name: intermediate_size for name in _INTERMEDIATE_NAMES if hasattr(defaults, name)}
    known |= dropouts(defaults, fresh.dropout)
    if hasattr(defaults, "num_key_value_heads"):
        known["num_key_value_heads"] = heads
    if hasattr(defaults, "use_cache"):
        known["use_cache"] = False
    if lost := {"vocab_size", "hidden_size", "num_hidden_layers"} - set(known):
        raise UserError(
            f"model.fresh.architecture {fresh.architecture!r} has no {', '.join(sorted(lost))}: it encodes no text"
        )
    for name in fresh.options:
        if not hasattr(defaults, name):
            hint = _near(name, defaults.to_dict())
            raise UserError(f"model.fresh.options: {fresh.architecture!r} has no setting {name!r}{hint}")
    return known | fresh.options


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=5, cutoff=0.4)
    return f"; near names: {', '.join(near)}" if near else ""
