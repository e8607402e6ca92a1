"""What a folder says of language bias taken out after training: how, and on which texts that was fitted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.errors import UserError

RECORD = "debias.json"
_TEXTS = "debias_texts.npy"


@dataclass(frozen=True, kw_only=True)
class Debiased:
    """How an encoder's language bias was taken out.

    Attributes:
        record: for debias.json and results.json: "method", its options, "model", "corpora", "languages", "texts".
        text_keys: uint64 [n, 2], see `hybatch.corpus.index.keys`: the texts it was fitted on.
    """

    record: dict[str, Any]
    text_keys: np.ndarray


def write_debiased(folder: Path, debiased: Debiased) -> None:
    """Write it into an existing folder."""
    text = json.dumps(debiased.record, indent=2, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")
    np.save(folder / _TEXTS, debiased.text_keys)


def read_debiased(folder: Path) -> Debiased | None:
    """Read what `write_debiased` wrote; None where the folder is of an encoder that was not debiased.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not (folder / RECORD).is_file():
        return None
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        text_keys = np.load(folder / _TEXTS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder}: what {RECORD} and {_TEXTS} say cannot be read ({error}); debias again") from error
    if not isinstance(record, dict) or "method" not in record or text_keys.ndim != 2 or text_keys.shape[1] != 2:
        raise UserError(f"{folder / RECORD}: was not written by hybatch debias; debias again")
    return Debiased(record=record, text_keys=text_keys)
