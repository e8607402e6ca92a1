"""What a method of removal is given, and what it makes of it.

L languages, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hybatch.models import LanguageOffsets, Role
from hybatch.models.head import Dense


@dataclass(frozen=True)
class LanguageMeans:
    """Means of unit vectors.

    Attributes:
        languages: L codes, in alphabetical order.
        of: role -> float64 [L, H], the mean of the vectors of each language's texts in that role.
    """

    languages: tuple[str, ...]
    of: Mapping[Role, np.ndarray]


class MethodOptions(NamedTuple):
    """Options of `hybatch debias` that belong to some of the methods; None where they are not given."""

    directions: int | None = None
    put_back: bool | None = None
    pivot: str | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to take language bias out of an encoder's vectors.

    Attributes:
        name: what --method calls it.
        summary: for the help.
        options: those of `MethodOptions` that it reads.
        by_language: whether it moves a text by its language, which must then be known.
        settle: fills in what is not given, before anything is encoded; UserError names what cannot be.
        fit: the layer behind the encoder's own, or the offsets of its languages. UserError where the means do not
            give what was asked for.
    """

    name: str
    summary: str
    options: tuple[str, ...]
    by_language: bool
    settle: Callable[[Sequence[str], MethodOptions], MethodOptions]
    fit: Callable[[LanguageMeans, MethodOptions], Dense | LanguageOffsets]
