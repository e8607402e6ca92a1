"""Hard negatives by sorting every score of every question: what mining must agree with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hybatch.evaluation.mining.selection import Rule


class Found(NamedTuple):
    """Negatives by (language, id), and three counts over all questions."""

    negatives: dict[tuple[str, str], list[str]]
    answers_passed: int
    above_limit: int


def brute_force(
    rows: Mapping[str, list[dict[str, Any]]],
    vectors: Mapping[tuple[str, str], np.ndarray],
    relation: str,
    rule: Rule,
    judge: Callable[[str, str], float] | None = None,
) -> Found:
    """Mine rows of <lang>.jsonl that have a `passage_id`, in float64; the most similar of those that the rule allows.

    Args:
        vectors: (role, text) -> embedding.
        judge: what a teacher gives a question and a passage.
    """
    flat = [(language, row) for language in sorted(rows) for row in rows[language]]
    passages = list(dict.fromkeys(row["passage"] for _, row in flat if "passage" in row))
    negatives: dict[tuple[str, str], list[str]] = {}
    answers_passed = above_limit = 0
    for language, row in flat:
        if "question" not in row or "passage" not in row:
            continue
        same_question = {r["id"] for _, r in flat if r.get("question") == row["question"]}
        groups = {r["passage_id"] for _, r in flat if r["id"] in same_question}
        answers = {r["passage"] for _, r in flat if r["passage_id"] in groups and "passage" in r}
        here = {r["passage"] for x, r in flat if x == language and "passage" in r}
        pool = [p for p in passages if relation == "pool" or (p in here) == (relation == "same")]
        query = vectors["query", row["question"]].astype(np.float64)
        score = {p: float(query @ vectors["passage", p].astype(np.float64)) for p in passages}
        ordered = sorted(pool, key=lambda p: (-score[p], passages.index(p)))
        others = [p for p in ordered if p not in answers]
        window = others[rule.first_rank - 1 : rule.last_rank]
        if judge is not None:
            score = {p: judge(row["question"], p) for p in passages}
        positive = score[row["passage"]]
        low = [
            p
            for p in window
            if (rule.margin is None or score[p] < positive - rule.margin)
            and (rule.ratio is None or score[p] < positive - (1 - rule.ratio) * abs(positive))
            and (rule.max_score is None or score[p] < rule.max_score)
        ]
        above_limit += len(window) - len(low)
        negatives[language, row["id"]] = low[: rule.negatives]
        end = ordered.index(others[rule.last_rank - 1]) if len(others) >= rule.last_rank else len(ordered)
        answers_passed += sum(p in answers for p in ordered[:end])
    return Found(negatives, answers_passed, above_limit)
