"""How often each language, and each ordered pair of languages, is drawn beside the others.

What `sampling.language_weights` and `sampling.pairs` say is a weight for each pattern; a language, or a pair, has the
product of the weights of all patterns that match it, and 1 where none does. A product does not depend on the order in
which patterns are written. Weights are relative: twice the weight is drawn twice as often where both are there.

L languages of a corpus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import permutations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hybatch.errors import UserError
from hybatch.sampling.config import SamplingConfig
from hybatch.sampling.keyed import Int64Array
from hybatch.sampling.kinds import KINDS

_T = TypeVar("_T")
_WHOLE = 1 << 31
"""What whole weights sum to, but for rounding."""


@dataclass(frozen=True)
class LanguageWeights:
    """The weights of the languages trained on.

    Attributes:
        languages: code -> weight; None where all are alike.
        pairs: (query's language, passage's language) -> weight, of two different ones; None where all are alike.
    """

    languages: Mapping[str, float] | None = None
    pairs: Mapping[tuple[str, str], float] | None = None

    def of_language(self, code: str) -> float:
        """The weight of a language trained on."""
        return 1.0 if self.languages is None else self.languages[code]

    def never_drawn(self) -> tuple[tuple[str, str], ...]:
        """The pairs of weight 0, in alphabetical order."""
        return tuple(sorted(pair for pair, weight in (self.pairs or {}).items() if weight == 0))

    def whole_languages(self, codes: Sequence[str]) -> Int64Array | None:
        """[L] of a corpus's languages, 0 for those not trained on; None where all are alike."""
        if self.languages is None:
            return None
        return whole_weights(np.array([self.languages.get(code, 0.0) for code in codes]))

    def whole_pairs(self, codes: Sequence[str]) -> Int64Array | None:
        """[L, L], queries' languages down, of the pairs of a corpus's languages; None where all are alike."""
        if self.pairs is None:
            return None
        return whole_weights(np.array([[self.pairs.get((x, y), 0.0) for y in codes] for x in codes]))


def language_weights(config: SamplingConfig, kinds: Sequence[str], languages: Sequence[str]) -> LanguageWeights:
    """The weights that a run's options give the languages trained on.

    Raises:
        UserError: a pattern matches nothing, all weights are 0, or no kind of the run looks at them.
    """
    matches = {KINDS[kind].match for kind in kinds}
    for option, given, wanted in (
        ("language_weights", config.language_weights, "same"),
        ("pairs", config.pairs, "different"),
    ):
        if given is not None and wanted not in matches:
            raise UserError(
                f"sampling.{option} weighs examples in {'one language' if wanted == 'same' else 'two languages'}, "
                f"which batches of {', '.join(kinds)} do not have; leave it out, or choose another sampling.kind"
            )
    trained = ", ".join(languages)
    return LanguageWeights(
        languages=_products(
            "sampling.language_weights", config.language_weights, list(languages), _is_language, f"languages: {trained}"
        ),
        pairs=_products(
            "sampling.pairs",
            config.pairs,
            list(permutations(languages, 2)),
            _is_pair,
            f"pairs of two different languages, QUESTION-PASSAGE, of {trained}",
        ),
    )


def _products(
    option: str,
    given: Mapping[str, float] | None,
    entries: Sequence[_T],
    is_matched: Callable[[str, _T], bool],
    there_are: str,
) -> dict[_T, float] | None:
    if given is None:
        return None
    for pattern in given:
        if not any(is_matched(pattern, entry) for entry in entries):
            raise UserError(f"{option}: {pattern!r} matches nothing that is trained on; there are the {there_are}")
    found = {
        entry: math.prod((weight for pattern, weight in sorted(given.items()) if is_matched(pattern, entry)), start=1.0)
        for entry in entries
    }
    if not any(found.values()):
        raise UserError(f"{option}: every weight comes to 0, so that nothing can be drawn; give something more")
    return found


def _is_language(pattern: str, code: str) -> bool:
    return fnmatchcase(code, pattern)


def _is_pair(pattern: str, pair: tuple[str, str]) -> bool:
    """Codes may hold hyphens too: it is enough that the pattern can be cut at one of its own so that both parts fit."""
    parts = pattern.split("-")
    cuts = (("-".join(parts[:cut]), "-".join(parts[cut:])) for cut in range(1, len(parts)))
    return any(fnmatchcase(pair[0], question) and fnmatchcase(pair[1], passage) for question, passage in cuts)


def whole_weights(weights: npt.NDArray[np.float64]) -> Int64Array:
    """Weights as whole numbers of the same proportions, within 2^-31 of their sum: int64 of the same shape.

    Their sum is below 2^32, and what is above 0 stays so.
    """
    total = math.fsum(weights.ravel().tolist())
    if not total:
        return np.zeros(weights.shape, dtype=np.int64)
    scaled = np.floor(weights / total * _WHOLE + 0.5).astype(np.int64)
    return np.where(weights > 0, np.maximum(scaled, 1), 0)
