"""R@2kt and R@5kt of XOR-Retrieve: is an answer within the first 2,000 or 5,000 tokens retrieved?

Defined in "XOR QA" (arXiv 2010.11856, section 4.1). The publisher's script takes its tokens from NLTK; those here are
words and punctuation signs by a pattern of their own, so counts may differ by a token here and there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages

# Words with what binds them (don't, U.S., 3.5, well-known), and every other sign by itself.
_TOKEN = re.compile(r"\w+(?:[-'’.,]\w+)*|[^\w\s]")


def per_query(metrics: Sequence[str], one: QuerySet, passages: Passages, found_QK: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [Q]: 1 where an answer is found, for metrics named such as "recall@2kt".

    NaN for queries whose only answers are "yes" or "no": they are left out, as the publisher's script does.
    """
    assert one.answers is not None
    spans = [[answer for answer in answers if answer not in ("yes", "no")] for answers in one.answers]
    asked = [query for query, answers in enumerate(spans) if answers]
    named = passages.read_some(found_QK[asked].ravel().tolist())
    values: dict[str, np.ndarray] = {}
    for metric in metrics:
        limit = 1000 * int(metric.removeprefix("recall@").removesuffix("kt"))
        values[metric] = np.full(len(spans), np.nan)
        for query in asked:
            texts = [named[n].text for n in found_QK[query].tolist() if n >= 0]
            values[metric][query] = holds_answer(texts, spans[query], limit)
    return values


def holds_answer(ranked_texts: Sequence[str], answers: Sequence[str], limit: int) -> bool:
    """Whether the first `limit` tokens of the texts, one after the other, hold any of the answers.

    Both are compared as tokens joined by a space, so that an answer may begin and end anywhere inside a token.
    """
    tokens: list[str] = []
    for text in ranked_texts:
        tokens += _TOKEN.findall(text)
        if len(tokens) >= limit:
            break
    joined = " ".join(tokens[:limit])
    return any(" ".join(_TOKEN.findall(answer)) in joined for answer in answers if answer.strip())
