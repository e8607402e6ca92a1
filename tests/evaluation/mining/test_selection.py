"""The score that a hard negative must stay below."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybatch.evaluation.mining.selection import Rule

SCORES = st.floats(-1, 1)
RATIOS = st.floats(0, 1, exclude_min=True)


@given(positive=SCORES, ratio=RATIOS)
def test_a_ratio_takes_a_share_of_the_positives_size_whatever_its_sign(positive: float, ratio: float) -> None:
    limit = Rule(ratio=ratio).limit(positive)
    assert limit <= positive
    assert limit == pytest.approx(positive - (1 - ratio) * abs(positive), abs=1e-12)


@given(positive=SCORES, smaller=RATIOS, greater=RATIOS)
def test_a_smaller_ratio_never_lets_more_through(positive: float, smaller: float, greater: float) -> None:
    smaller, greater = sorted((smaller, greater))
    assert Rule(ratio=smaller).limit(positive) <= Rule(ratio=greater).limit(positive)


@given(positive=st.floats(0, 1), ratio=RATIOS)
def test_of_a_positive_above_zero_it_is_the_product(positive: float, ratio: float) -> None:
    assert Rule(ratio=ratio).limit(positive) == positive * ratio


@given(positive=SCORES, ratio=RATIOS, margin=st.floats(0, 2))
def test_with_both_the_lesser_limit_holds_and_with_neither_there_is_none(
    positive: float, ratio: float, margin: float
) -> None:
    both = Rule(ratio=ratio, margin=margin).limit(positive)
    assert both == min(Rule(ratio=ratio).limit(positive), Rule(margin=margin).limit(positive)) <= positive
    assert Rule().limit(positive) == math.inf
    assert Rule(ratio=ratio, max_score=0.1).limit(positive) == min(0.1, Rule(ratio=ratio).limit(positive))
