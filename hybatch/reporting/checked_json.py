"""Objects of a JSON or YAML file: what is missing or of the wrong kind in them is named by file and keys."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from hybatch.errors import UserError

T = TypeVar("T")


class Wrong(Exception):
    """A value is not what was expected, which the exception's text is."""


class Checked:
    """An object of a JSON or YAML file; what is missing or wrong in it is named by the path of its keys.

    Args:
        source: the file.
        mend: what to do where something is wrong.
        place: the keys that lead to this object.
    """

    def __init__(self, value: Any, source: str, mend: str, place: tuple[str, ...] = ()) -> None:
        self.source, self._mend, self._place = source, mend, place
        if not isinstance(value, Mapping):
            raise self._error(place, f"is {_shown(value)}; expected an object")
        self.value: Mapping[str, Any] = value

    def get(self, key: str, check: Callable[[Any], T], **default: T) -> T:
        """The checked value of a key; `default` where it is missing or null, if one is given.

        Raises:
            UserError: it is missing, or wrong.
        """
        if default and self.value.get(key) is None:
            return default["default"]
        if key not in self.value:
            raise self._error((*self._place, key), "is missing")
        try:
            return check(self.value[key])
        except Wrong as error:
            self.refuse(key, str(error))

    def child(self, key: str) -> Checked:
        """The object of a key.

        Raises:
            UserError: it is missing or no object.
        """
        if key not in self.value:
            raise self._error((*self._place, key), "is missing")
        return Checked(self.value[key], self.source, self._mend, (*self._place, key))

    def children(self, keys: Sequence[str], what: str = "keys") -> list[tuple[str, Checked]]:
        """The objects of exactly these keys, in their own order; `what` messages call them.

        Raises:
            UserError: there are others, or one is missing or no object.
        """
        if missing := [key for key in keys if key not in self.value]:
            raise self._error((*self._place, missing[0]), f"is missing: the {what} are {' '.join(keys)}")
        if other := [key for key in self.value if key not in keys]:
            raise self._error((*self._place, other[0]), f"should not be there: the {what} are {' '.join(keys)}")
        return [(key, self.child(key)) for key in self.value]

    def get_figures(self, needed: Sequence[str]) -> dict[str, float | None]:
        """This object as metric -> number or None.

        Raises:
            UserError: a needed metric is missing, or a value is neither a finite number nor null.
        """
        return {self._name(key): self.get(key, number_or_none) for key in (*self.value, *needed)}

    def figures_of(
        self, keys: Sequence[str], needed: Sequence[str], what: str = "keys"
    ) -> dict[str, dict[str, float | None]]:
        """The figures of exactly these keys, in their own order; `what` messages call them.

        Raises:
            UserError: see `children` and `get_figures`.
        """
        return {key: one.get_figures(needed) for key, one in self.children(keys, what)}

    def only(self, *keys: str) -> None:
        """Refuse keys that are not among these.

        Raises:
            UserError: there is one.
        """
        if unknown := [str(key) for key in self.value if key not in keys]:
            raise self._error((*self._place, unknown[0]), f"is not known; known are {', '.join(keys)}")

    def names(self) -> tuple[str, ...]:
        """The keys.

        Raises:
            UserError: one is no text that can be written.
        """
        return tuple(map(self._name, self.value))

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Say that a value is wrong.

        Raises:
            UserError: always.
        """
        raise self._error((*self._place, key), f"is {_shown(self.value.get(key))}; expected {expected}")

    def _name(self, key: Any) -> str:
        try:
            return text(key)
        except Wrong as error:
            raise self._error((*self._place, str(key)), f"is no name; expected {error}") from error

    def _error(self, place: Sequence[str], problem: str) -> UserError:
        what = f"{'.'.join(place)!r} {problem}" if place else problem
        return UserError(f"{self.source}: {what}; {self._mend}")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def text(value: Any) -> str:
    """A text of one line that is not empty and can be written as UTF-8 and as XML."""
    if not isinstance(value, str) or not value:
        raise Wrong("a text")
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in value):
        raise Wrong("a text without control characters and halves of surrogate pairs")
    return value


def count(value: Any) -> int:
    """A whole number from 0 that a float can hold."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise Wrong("a whole number from 0, of at most 15 digits")
    return value


def number(value: Any) -> float:
    """A finite number, as it stands: whole ones stay whole."""
    try:
        finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise Wrong("a finite number")
    return value


def number_or_none(value: Any) -> float | None:
    """A finite number, or null."""
    try:
        return None if value is None else number(value)
    except Wrong as error:
        raise Wrong("a finite number or null") from error


def names(value: Any) -> tuple[str, ...]:
    """Distinct texts."""
    if not isinstance(value, list):
        raise Wrong("a list of texts")
    try:
        listed = tuple(map(text, value))
    except Wrong as error:
        raise Wrong(f"a list, each {error}") from error
    if len(set(listed)) < len(listed):
        raise Wrong("a list of texts, each once")
    return listed


def by_name(check: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """An object whose values pass a check."""

    def checked(value: Any) -> dict[str, T]:
        if not isinstance(value, dict):
            raise Wrong("an object")
        found = {}
        for name, one in value.items():
            try:
                found[text(name)] = check(one)
            except Wrong as error:
                raise Wrong(f"an object of values that are each {error}, unlike that of {_shown(name)}") from error
        return found

    return checked
