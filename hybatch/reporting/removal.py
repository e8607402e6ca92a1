"""What a results.json says of language bias taken out of its model after training, and how tables say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybatch.reporting.checked_json import Checked, Wrong, names, text

_KEY = "debias"


def checked_removal(at: Checked) -> Mapping[str, Any] | None:
    """The object "debias" of a results.json, as it stands there; None where there is none.

    Raises:
        UserError: what reports need of it is missing or of the wrong kind.
    """
    if at.value.get(_KEY) is None:
        return None
    found = at.child(_KEY)
    found.get("method", text)
    found.get("model", text)
    found.get("languages", names)
    found.get("corpora", _named)
    found.child("options")
    return found.value


def _named(value: Any) -> None:
    listed = value if isinstance(value, list) else [None]
    if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in listed):
        raise Wrong("a list of corpora, each with a name")


def removal_words(debias: Mapping[str, Any]) -> str:
    """Such as "debiased by lir (directions 10) on flores in 11 languages"."""
    options = ", ".join(
        " ".join(name.split("_")) + ("" if value is True else f" {value}")
        for name, value in debias["options"].items()
        if value is not None and value is not False
    )
    method = debias["method"] + (f" ({options})" if options else "")
    corpora = " and ".join(one["name"] for one in debias["corpora"])
    return f"debiased by {method} on {corpora} in {len(debias['languages'])} languages"
