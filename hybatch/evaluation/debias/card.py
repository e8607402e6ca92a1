"""The README.md of a debiased encoder's folder: what was done to it, and who can read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hybatch.evaluation.debias.registry import METHODS

_BY_LANGUAGE = """Each vector is moved by an offset of its text's language and role, so the language must be known:

- `hybatch evaluate --model THIS_FOLDER` knows it for tasks of texts, and applies the offsets. A language without an
  offset takes the mean of all offsets; the evaluation says so.
- `SentenceTransformer(folder, trust_remote_code=True)` loads the folder where hybatch is installed;
  `encode(texts, prompt_name="query", language="de", role="query")` applies them, and `encode` without the two fails.
- Where no language is known (collections, mining, MTEB, training) hybatch refuses the folder.
"""
_BY_LAYER = """The projection is the last dense layer: whatever reads sentence-transformers' folders applies it. The
language of a text need not be known.
"""


def card(record: Mapping[str, Any]) -> str:
    """Markdown.

    Args:
        record: of `Debiased`.
    """
    options = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in record["options"].items())
    counts = ", ".join(
        f"{sum(of_language.values()):,} {'queries' if role == 'query' else 'passages'}"
        for role, of_language in record["texts"].items()
    )
    return (
        f"# {record['model']}, debiased by {record['method']}\n\n"
        f"Made by `hybatch debias` {record['versions']['hybatch']}: {METHODS[record['method']].summary} ({options}).\n"
        f"Fitted on {counts} of {', '.join(one['name'] for one in record['corpora'])} in "
        f"{', '.join(record['languages'])}.\n\n"
        + (_BY_LANGUAGE if METHODS[record["method"]].by_language else _BY_LAYER)
    )
