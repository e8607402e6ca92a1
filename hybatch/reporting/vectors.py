"""What a results.json says of the vectors that were ranked, where they were cut short or stored in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass

from hybatch.reporting.checked_json import Checked, count, text


@dataclass(frozen=True)
class Vectors:
    """One choice of --vectors and --dimensions; `bytes` are those of a passage."""

    kind: str
    dimensions: int
    bytes: int

    @property
    def words(self) -> str:
        """Such as "int8 x 256"."""
        return f"{self.kind} x {self.dimensions}"


def checked_vectors(at: Checked) -> Vectors | None:
    """The object "vectors" of a results.json; None where there is none.

    Raises:
        UserError: something in it is missing or of the wrong kind.
    """
    if at.value.get("vectors") is None:
        return None
    found = at.child("vectors")
    return Vectors(found.get("kind", text), found.get("dimensions", count), found.get("bytes", count))
