"""One encoder of several: the weighted mean of their weights.

Encoders that were trained from one start lie close enough together that their mean is an encoder, often a better one
than each: runs of several seeds or samplings (arXiv 2203.05482, section 2, "uniform soup"), or a run and its start,
whose abilities it gets back (arXiv 2109.01903, equation 1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from hybatch.models.config import Role
from hybatch.models.encoder import Encoder
from hybatch.models.laser import LaserTokenizer

_OF_USE_ALONE = ("padding", "truncation")
"""What a tokenizer's file keeps of its last use; not part of what it does."""
_MOST_NAMED = 3
_NO_ARITHMETIC = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""Of a backbone's configuration; all else may change what the same weights compute."""


@torch.no_grad()
def move_towards_(mean: Encoder, other: Encoder, share: float) -> None:
    """Set every weight to (1 - share) of its own and `share` of the other's; equal weights keep their bits.

    Args:
        mean: changed in place.
        other: one for which `why_apart` finds nothing.
        share: from 0 to 1.
    """
    theirs, moved = other.state_dict(), set()
    for name, weight in mean.state_dict().items():
        # One that two layers share stands there twice.
        if weight.is_floating_point() and weight.data_ptr() not in moved:
            weight.lerp_(theirs[name], share)
            moved.add(weight.data_ptr())


def why_apart(mean: Encoder, other: Encoder) -> str | None:
    """What stands against a mean of the two, in words that follow "the encoders differ in"; None where nothing does."""
    if (parts := _different_weights(mean, other)) is not None:
        return parts
    if (settings := _different_settings(mean, other)) is not None:
        return settings
    if mean.config.pooling != other.config.pooling:
        return f"pooling, {mean.config.pooling} and {other.config.pooling}"
    if [str(layer) for layer in mean.head] != [str(layer) for layer in other.head]:
        return "the dense layers behind the pooling"
    roles: tuple[Role, Role] = ("query", "passage")
    for role in roles:
        if (prefixes := (mean.config.prefix(role), other.config.prefix(role)))[0] != prefixes[1]:
            return f"what stands before a {role}, {prefixes[0]!r} and {prefixes[1]!r}"
    if _rules(mean.tokenizer) != _rules(other.tokenizer):
        return "how texts become tokens"
    return None


def _different_weights(mean: Encoder, other: Encoder) -> str | None:
    kinds = tuple(one.backbone.config.model_type for one in (mean, other))
    if kinds[0] != kinds[1]:
        return f"the backbone's architecture, {kinds[0]} and {kinds[1]}"
    shapes = [{name: tuple(weight.shape) for name, weight in one.state_dict().items()} for one in (mean, other)]
    different = sorted(
        name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
    )
    if different:
        more = f" and {len(different) - _MOST_NAMED} more" if len(different) > _MOST_NAMED else ""
        return f"the shapes of weights: {', '.join(different[:_MOST_NAMED])}{more}"
    weights = other.state_dict()
    fixed = (name for name, weight in mean.state_dict().items() if not weight.is_floating_point())
    return next(
        (f"the table {name}" for name in fixed if not torch.equal(mean.state_dict()[name], weights[name])), None
    )


def _different_settings(mean: Encoder, other: Encoder) -> str | None:
    ours, theirs = ({**one.backbone.config.to_dict()} for one in (mean, other))
    names = sorted((ours.keys() | theirs.keys()) - set(_NO_ARITHMETIC))
    different = [name for name in names if ours.get(name) != theirs.get(name) and "dropout" not in name]
    return f"the backbone's config.json: {', '.join(different)}" if different else None


def _rules(tokenizer: PreTrainedTokenizerBase | LaserTokenizer) -> Mapping[str, Any]:
    if isinstance(tokenizer, LaserTokenizer) or not tokenizer.is_fast:
        return {"kind": type(tokenizer).__name__, "vocabulary": getattr(tokenizer, "get_vocab", dict)()}
    rules: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: rule for name, rule in rules.items() if name not in _OF_USE_ALONE}
