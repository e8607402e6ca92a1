"""The model that an encoder was made from, as far as its folder, the hub's cache or the table of names know it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from hybatch.errors import UserError
from hybatch.models.named import hub_id, named_model
from hybatch.paths import expand_path, last_part

CARD = "README.md"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# An identifier of the hub's list of licences; other words are no value of `license`.
_LICENCE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Attributes:
    name: what texts call it: a hub id, or the last part of a folder's path.
    hub_id: its own, or that of the model which its folder names as its base; None where neither is known.
    licence: of its weights, as the hub writes licences (`mit`); None where nothing says it.
    """

    name: str
    hub_id: str | None = None
    licence: str | None = None


def base_model(backbone: str) -> BaseModel:
    """What is known of a hub id, a folder or a short name, without asking the hub; its card goes before the table."""
    given, named = hub_id(backbone), named_model(backbone)
    folder = _folder(given)
    facts = front_matter(_card_of(given, folder))
    own_id = given if folder is None and _HUB_ID.fullmatch(given) else None
    stated = facts.get("base_model")
    above = stated if isinstance(stated, str) and _HUB_ID.fullmatch(stated) else None
    licence = facts.get("license") or (None if named is None else named.licence.lower())
    return BaseModel(
        name=own_id or last_part(given if folder is None else str(folder)),
        hub_id=own_id or above or (None if named is None else named.hub_id),
        licence=licence if isinstance(licence, str) and _LICENCE.fullmatch(licence) else None,
    )


def _folder(path_or_hub_id: str) -> Path | None:
    try:
        folder = Path(expand_path(path_or_hub_id, "model"))
    except UserError:
        return None  # a variable that is not set here
    return folder if folder.is_dir() or folder.is_absolute() else None


def _card_of(path_or_hub_id: str, folder: Path | None) -> Path | None:
    if folder is not None:
        return folder / CARD
    try:
        cached = try_to_load_from_cache(path_or_hub_id, CARD)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


class _Words(yaml.SafeLoader):
    """YAML in which yes, no, on and off are words: `no` is Norwegian."""


_Words.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in listed if tag != "tag:yaml.org,2002:bool"]
    for first, listed in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def front_matter(card: Path | None) -> dict[str, Any]:
    """The YAML at the head of a README.md; empty where there is none that can be read."""
    try:
        return {} if card is None else facts_of(card.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}


def facts_of(card: str) -> dict[str, Any]:
    """The YAML at the head of a card; empty where there is none that can be read. Truth values stay words."""
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        facts = yaml.load(parts[1], _Words)
    except (ValueError, yaml.YAMLError):
        return {}
    return facts if isinstance(facts, dict) else {}
