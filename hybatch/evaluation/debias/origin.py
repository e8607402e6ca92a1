"""What a debiased encoder's model card says of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybatch.evaluation.debias.registry import METHODS
from hybatch.models.card import Origin, base_model, versions_used


def debiased_origin(record: Mapping[str, Any]) -> Origin:
    """Of an encoder with this record.

    Args:
        record: of `Debiased`.
    """
    method = METHODS[record["method"]]
    base = base_model(record["model"])
    counts = ", ".join(
        f"{sum(of_language.values()):,} {'queries' if role == 'query' else 'passages'}"
        for role, of_language in record["texts"].items()
    )
    reader = "" if method.by_language else " The projection is the last dense layer, so no language need be known."
    return Origin(
        title=f"{base.name}, debiased by {method.name}",
        made=f"Language bias taken out of {base.name} without training (`hybatch debias`): {method.summary}.{reader}",
        base=base,
        languages=record["languages"],
        data=[(one["name"], "the languages' means were taken of it") for one in record["corpora"]],
        recipe=[
            ("method", method.name),
            *((name.replace("_", " "), str(value)) for name, value in record["options"].items()),
            ("fitted on", counts),
            ("made with", versions_used()),
        ],
    )
