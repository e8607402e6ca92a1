"""A configuration that an earlier version wrote: what it says of options that came later."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from hybatch.losses import DEFAULT_LOSS, LOSSES, LossConfig
from hybatch.training.config import RunConfig


def with_defaults(written: Any, of: type = RunConfig) -> Any:
    """The same configuration with every option that it lacks at the option's default, in plain dicts and lists.

    An option that has no default, or that `of` no longer has, stays as it is: missing, or there.

    Args:
        written: what `RunConfig.as_dict` gave and a file kept; anything but a dict is given back.
        of: the dataclass that it was written from.
    """
    if not isinstance(written, dict):
        return written
    hints = get_type_hints(of)
    defaults = {one.name: _default(one) for one in fields(of)}
    added = {name: _plain(value) for name, value in defaults.items() if name not in written and value is not MISSING}
    kept = {name: _filled(value, hints[name]) if name in hints else value for name, value in written.items()}
    return kept | added


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _plain(value: Any) -> Any:
    """As a file keeps it: dataclasses as dicts, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _filled(value: Any, hint: Any) -> Any:
    """`value` with the defaults of the dataclasses that it holds, as its type says which."""
    for part in _alternatives(hint):
        if isinstance(value, dict) and part is LossConfig:
            return with_defaults(value, LOSSES.get(value.get("kind", DEFAULT_LOSS.kind), LossConfig))
        if isinstance(value, dict) and isinstance(part, type) and is_dataclass(part):
            return with_defaults(value, part)
        if isinstance(value, list) and get_origin(part) is list:
            return [_filled(item, get_args(part)[0]) for item in value]
        if isinstance(value, dict) and get_origin(part) is dict:
            return {key: _filled(item, get_args(part)[1]) for key, item in value.items()}
    return value


def _alternatives(hint: Any) -> Iterator[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        yield from get_args(hint)
    else:
        yield hint
