"""What of a task the removal of language bias has, or should not have, seen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from hybatch.corpus.index.keys import keys_of
from hybatch.evaluation.embeddings import PARTS
from hybatch.evaluation.task import TextsTask
from hybatch.models import LanguageOffsets
from hybatch.models.folder.debiased import Debiased

_UNSEEN, _FITTED = "unseen_languages", "task_texts_fitted"


def seen_by_removal(debiased: Debiased, offsets: LanguageOffsets | None, task: TextsTask) -> dict[str, Any]:
    """For the "debias" of results.json.

    Args:
        debiased: what the encoder's folder says of it.
        offsets: those of the encoder, where it has any.

    Returns:
        "task_texts_fitted": {"seen", "of"}, distinct texts of the task that the removal was fitted on; and for an
        encoder with offsets "unseen_languages", those of the task that it has none of its own for.
    """
    texts = set(chain.from_iterable(chain.from_iterable(getattr(task, part).values()) for part in PARTS))
    fitted = {tuple(key) for key in debiased.text_keys.tolist()}
    seen = sum(tuple(key) in fitted for key in keys_of(texts).tolist())
    found: dict[str, Any] = {_FITTED: {"seen": seen, "of": len(texts)}}
    if offsets is not None:
        languages = {task.language_of(part, language) for part in PARTS for language in getattr(task, part)}
        found[_UNSEEN] = offsets.unseen(languages)
    return found


def removal_warnings(debias: Mapping[str, Any]) -> list[str]:
    """Lines for what makes figures less, or more, than they look.

    Args:
        debias: of results.json; empty where nothing was removed.
    """
    lines = []
    if unseen := debias.get(_UNSEEN):
        lines.append(
            f"the offsets of {debias['method']} were fitted on {' '.join(debias['languages'])}: texts in "
            f"{' '.join(unseen)} are moved by the mean of these languages' offsets"
        )
    if seen := debias.get(_FITTED, {}).get("seen"):
        lines.append(
            f"{seen:,} of the task's {debias[_FITTED]['of']:,} distinct texts were among those that {debias['method']} "
            "was fitted on: fit it on training data"
        )
    return lines
