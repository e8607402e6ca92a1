"""Nested options as one table of dotted names, to be compared option by option."""

from __future__ import annotations

from typing import Any


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one dict, "a.b.0" -> leaf; an empty dict or list inside is a leaf."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            k: v for name, part in items for k, v in flatten(part, f"{prefix}.{name}" if prefix else str(name)).items()
        }
    return {prefix: value}
