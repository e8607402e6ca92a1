"""What rows say under `positives`: several texts, or ids of passages, that answer a question, each perhaps scored.

An entry is a text, or `{"text": ..., "passage_id": ..., "score": ...}` with a text, an id or both; without a score it
counts as 1. Texts are in the language of the row that lists them; an id stands for the passage of that id in every
language that has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from hybatch.corpus.rows import LARGEST_SCORE, RowBatch
from hybatch.errors import UserError

_EXPECTED = 'expected a list of texts or of {"text" and/or "passage_id", optional "score"}'
_FIELDS = ("text", "passage_id", "score")
NO_SCORE = math.nan


class Listed(NamedTuple):
    """An entry of a row; `text` is None where an id stands for it, `score` NO_SCORE where none is given."""

    text: str | None
    passage_id: str | None = None
    score: float = NO_SCORE


def with_positives(batch: RowBatch) -> RowBatch:
    """The batch with its `positives` read: a list of `Listed` a row, [] of a row that lists none.

    The passage of a row that lists any is the first of its list; where it has none, the first text it lists becomes its
    passage.

    Raises:
        UserError: an entry, or the list, is none; one stands twice in its list, or among the row's negatives too.
    """
    if batch.positives is None:
        return batch
    passages = list(batch.passages)
    passage_ids = list(batch.passage_ids or [None] * len(passages))
    positives: list[list[Listed]] = []
    for row, value in enumerate(batch.positives):
        listed = [] if value is None else _listed(value, batch.place(row))
        if listed:
            _check_negatives(listed, batch.negatives[row] if batch.negatives else None, batch.place(row))
            listed = _passage_first(listed, passages[row], passage_ids[row])
            if passages[row] is None:
                passages[row] = listed[0].text
                passage_ids[row] = passage_ids[row] or (listed[0].passage_id if listed[0].text is not None else None)
        positives.append(listed)
    has_ids = any(value is not None for value in passage_ids)
    return replace(batch, passages=passages, passage_ids=passage_ids if has_ids else None, positives=positives)


def _listed(value: Any, place: str) -> list[Listed]:
    if not isinstance(value, list) or not value:
        problem = "an empty list" if value == [] else repr(value)
        raise UserError(f"{place}: positives is {problem}; {_EXPECTED}, or leave it out")
    entries = [_entry(item, place) for item in value]
    for name in ("text", "passage_id"):
        given = [getattr(entry, name) for entry in entries if getattr(entry, name) is not None]
        for item in given:
            if given.count(item) > 1:
                raise UserError(f"{place}: positives lists the {name} {item!r} twice; take one out")
    return entries


def _entry(item: Any, place: str) -> Listed:
    fields = {"text": item} if isinstance(item, str) else item
    if not isinstance(fields, dict):
        raise UserError(f"{place}: positives holds {item!r}; {_EXPECTED}")
    for name in fields:
        if name not in _FIELDS:
            raise UserError(f"{place}: an entry of positives has {name!r}, which is none of {', '.join(_FIELDS)}")
    text, passage_id, score = (fields.get(name) for name in _FIELDS)
    for name, part in (("text", text), ("passage_id", passage_id)):
        if part is not None and not (isinstance(part, str) and part.strip()):
            raise UserError(f"{place}: a positive's {name} is {part!r}; give a text that is not empty")
    if text is None and passage_id is None:
        raise UserError(f"{place}: a positive has neither text nor passage_id; {_EXPECTED}")
    if score is None:
        return Listed(text, passage_id)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 < score <= LARGEST_SCORE:
        raise UserError(
            f"{place}: a positive's score is {score!r}; give a number greater than 0 and at most {LARGEST_SCORE:g}, or "
            "leave it out for 1"
        )
    return Listed(text, passage_id, float(score))


def _check_negatives(listed: Sequence[Listed], negatives: Any, place: str) -> None:
    for entry in listed:
        if entry.text is not None and isinstance(negatives, list) and entry.text in negatives:
            raise UserError(
                f"{place}: {entry.text!r} stands under positives and under negatives; it can be one of them"
            )


def _passage_first(listed: list[Listed], passage: Any, passage_id: Any) -> list[Listed]:
    """The row's passage, with the score that its entry has, and then the others as they stand."""
    if not isinstance(passage, str):
        own = next((entry for entry in listed if entry.text is not None), None)
        return listed if own is None else [own, *(entry for entry in listed if entry is not own)]
    scores = [entry.score for entry in listed if _is_passage(entry, passage, passage_id)]
    score = next((score for score in scores if not math.isnan(score)), NO_SCORE)
    others = (entry for entry in listed if not _is_passage(entry, passage, passage_id))
    return [Listed(passage, passage_id, score), *others]


def _is_passage(entry: Listed, passage: str, passage_id: Any) -> bool:
    if entry.text is not None:
        return entry.text == passage
    return passage_id is not None and entry.passage_id == passage_id
