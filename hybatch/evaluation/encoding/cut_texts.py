"""How many of the texts that were encoded the model did not read to their end.

B batch rows, T tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from torch import Tensor

from hybatch.models import Encoder, Role
from hybatch.processes import gather_objects

WARN_FROM = 0.2
"""Share of a role's texts from which on their being cut is worth a warning."""


class CutTexts:
    """Counts, batch by batch, the distinct texts that fill their role's maximum length.

    Those are the texts that are cut, and the few that just fit: nothing is tokenised a second time to tell them apart.
    """

    def __init__(self) -> None:
        self._encoded: Counter[Role] = Counter()
        self._full: Counter[Role] = Counter()
        self._longest: dict[Role, int] = {}

    def add(self, encoder: Encoder, features_BT: Mapping[str, Tensor], role: Role) -> None:
        """Count a batch that was encoded."""
        lengths_B = features_BT["attention_mask"].sum(dim=1)
        self._longest[role] = encoder.config.max_length(role)
        self._encoded[role] += len(lengths_B)
        self._full[role] += int((lengths_B >= self._longest[role]).sum())

    def counts(self) -> dict[str, dict[str, Any]]:
        """Role -> {"cut", "of", "max_length"}, summed over all processes; collective under torch.distributed."""
        gathered = gather_objects((self._encoded, self._full, self._longest))
        longest = {role: length for _, _, one in gathered for role, length in one.items()}
        return {
            role: {
                "cut": sum(full[role] for _, full, _ in gathered),
                "of": sum(encoded[role] for encoded, _, _ in gathered),
                "max_length": longest[role],
            }
            for role in get_args(Role)
            if role in longest
        }


def cut_warnings(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for every role of which `WARN_FROM` of the texts or more are cut.

    Args:
        counts: of `CutTexts.counts`.
    """
    return [
        f"{one['cut'] / one['of']:.0%} of the {role} texts ({one['cut']:,} of {one['of']:,}) fill the "
        f"{one['max_length']} tokens that the model reads of one: what stands behind them counts for nothing"
        for role, one in counts.items()
        if one["cut"] >= WARN_FROM * one["of"] > 0
    ]
