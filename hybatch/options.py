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

    Args:
        name: what the options are called before the dot, "training" of training.steps; "" for none.

    Raises:
        UserError: names the option, its value and what it may be.
    """
    hints = get_type_hints(type(section))
    for one in fields(section):
        check_value(_below(name, one.name), getattr(section, one.name), hints[one.name], limits_of(one.metadata))


def declared(section: type, name: str) -> tuple[Any, Limits | None] | None:
    """Type and limits of the option that a dotted name means below a dataclass; None where there is none."""
    first, _, rest = name.partition(".")
    one = next((one for one in fields(section) if one.name == first), None)
    if one is None:
        return None
    hint = get_type_hints(section)[first]
    if not rest:
        return hint, limits_of(one.metadata)
    inner = (part for part in (get_args(hint) or (hint,)) if is_dataclass(part))
    return next((found for part in inner if (found := declared(part, rest))), None)  # type: ignore[arg-type]


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
    """Check a single value, and what it holds: items are named by their place, `corpora.0`, or key.

    Args:
        hint: its type, as `get_type_hints` gives it; of the kinds that options have.
        bounds: of the numbers in it, whatever else it may be.

    Raises:
        UserError: names the option, its value and what it may be.
    """
    for part in get_args(hint) if _is_union(hint) else (hint,):
        origin, inner = get_origin(part), get_args(part)
        if is_dataclass(part) and isinstance(value, part):  # type: ignore[arg-type]
            return check_options(value, name)
        if origin is dict and isinstance(value, dict):
            for key, held in value.items():
                check_value(name, key, inner[0])
                check_value(_below(name, str(key)), held, inner[1], bounds)
            return None
        is_sequence = origin in (list, tuple) and isinstance(value, list | tuple)
        if is_sequence and (origin is list or len(value) == len(inner)):
            for place, item in enumerate(value):
                check_value(_below(name, str(place)), item, inner[place if origin is tuple else 0], bounds)
            return None
    if not _fits(value, hint, bounds):
        allowed = _described(hint, bounds)
        is_word = isinstance(value, bool) and "a text" in allowed
        mend = "; YAML reads no, yes, off and on as false and true: put the word in quotes" if is_word else ""
        raise UserError(f"{name} is {_shown(value)}: it must be {allowed}{mend}")
    return None


def _fits(value: Any, hint: Any, bounds: Limits | None) -> bool:
    """Whether a value that holds no others is what it may be."""
    if _is_union(hint):
        return any(_fits(value, part, bounds) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        is_number = isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
        return is_number and (bounds or Limits()).hold(value)
    return hint is Any or (get_origin(hint) is None and isinstance(value, hint))


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _below(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _described(hint: Any, bounds: Limits | None) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if _is_union(hint):
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
