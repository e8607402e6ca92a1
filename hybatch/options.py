"""What the value of an option may be: declared with its field or flag, checked in one place, refused with its name."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hybatch.errors import UserError

_LIMITS = "limits"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ends of a range of numbers: at least `ge`, greater than `gt`, at most `le`, less than `lt`."""

    ge: float = -math.inf
    gt: float = -math.inf
    le: float = math.inf
    lt: float = math.inf

    def hold(self, value: float) -> bool:
        """Whether a number lies between them; NaN and the infinities lie nowhere."""
        # Not math.isfinite, which fails on integers that no float holds.
        return self.ge <= value <= self.le and self.gt < value < self.lt

    def __str__(self) -> str:
        if math.isfinite(self.ge) and math.isfinite(self.le):
            return f" from {self.ge:,} to {self.le:,}"
        ends = (("of at least", self.ge), ("greater than", self.gt), ("at most", self.le), ("less than", self.lt))
        given = " and ".join(f"{word} {end:,}" for word, end in ends if math.isfinite(end))
        return f" {given}" if given else ""


def limits(**ends: float) -> dict[str, Limits]:
    """Metadata of a dataclass's numeric field: `field(default=1, metadata=limits(ge=1, le=10))`; see `Limits`."""
    return {_LIMITS: Limits(**ends)}


def limits_of(metadata: Any) -> Limits | None:
    """The limits that a field was declared with."""
    found: Limits | None = metadata.get(_LIMITS)
    return found


def check_options(section: Any, name: str) -> None:
    """Check every field of a dataclass of options against its type and its limits; for `__post_init__`.

    Where the type is a union, the limits are those of its numbers. Fields that are dataclasses themselves have checked
    their own.

    Args:
        name: what the options are called before the dot, "training" of training.steps; "" for none.

    Raises:
        UserError: names the option, its value and what it may be.
    """
    hints = get_type_hints(type(section))
    for one in fields(section):
        dotted = f"{name}.{one.name}" if name else one.name
        check_value(dotted, getattr(section, one.name), hints[one.name], limits_of(one.metadata))


def number_of(option: str, kind: type[int] | type[float], **ends: float) -> Callable[[str], Any]:
    """The `type` of a numeric command-line option for argparse; `ends` as in `Limits`."""
    bounds = Limits(**ends)

    def read(text: str) -> Any:
        try:
            value: Any = kind(text)
        except (ValueError, OverflowError):
            value = text
        check_value(option, value, kind, bounds)
        return value

    return read


def check_value(name: str, value: Any, hint: Any, bounds: Limits | None = None) -> None:
    """Check a single value.

    Args:
        hint: its type, as `get_type_hints` gives it.

    Raises:
        UserError: names the option, its value and what it may be.
    """
    if not _fits(value, hint, bounds):
        raise UserError(f"{name} is {_shown(value)}: it must be {_described(hint, bounds)}")


def _fits(value: Any, hint: Any, bounds: Limits | None) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part, bounds) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is list:
        return isinstance(value, list | tuple) and all(_fits(item, parts[0], bounds) for item in value)
    if origin is tuple:
        is_long_enough = isinstance(value, list | tuple) and len(value) == len(parts)
        return is_long_enough and all(_fits(item, part, bounds) for item, part in zip(value, parts, strict=True))
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, parts[0], None) and _fits(held, parts[1], bounds) for key, held in value.items()
        )
    if hint in (int, float):
        is_number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return is_number and (bounds or Limits()).hold(value)
    return isinstance(value, hint)


def _described(hint: Any, bounds: Limits | None) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(part, bounds) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (list, tuple):
        number = "" if origin is list else f" of {len(parts)}"
        return f"a list{number}, each {_described(parts[0], bounds)}"
    if origin is dict:
        return f"a mapping to {_described(parts[1], bounds)}"
    if is_dataclass(hint):
        return "{" + ", ".join(one.name for one in fields(hint)) + "}"
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(hint, "anything") + (str(bounds or "") if hint in (int, float) else "")


def _shown(value: Any) -> str:
    """A value as YAML has it, as far as that is short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:
        text = "an integer of more digits than Python writes"
    return text if len(text) <= 100 else f"{text[:97]}..."
