"""The loss of queries that have several positives against its definition; over processes see test_contrastive.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.losses import (
    EMPTY_SLOT,
    AlignmentConfig,
    ContrastiveConfig,
    ContrastiveLoss,
    FilterConfig,
    Translations,
)
from hybatch.losses.info_nce import Implementation
from hybatch.losses.several_positives import Form
from tests.losses.batches import BATCH, WIDTH
from tests.losses.further import (
    MOST,
    Problem,
    defined_loss,
    further_positives,
    loss_of_rows,
    random_problem,
    terms_of_all,
)

FORMS: list[Form] = ["mean", "log-sum"]
IMPLEMENTATIONS: list[Implementation] = ["dense", "streaming"]
every_form = pytest.mark.parametrize("form", FORMS)
both = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def _build(
    form: Form, implementation: Implementation, temperature: float = 0.05, symmetric: bool = False
) -> ContrastiveLoss:
    return ContrastiveLoss(temperature=temperature, symmetric=symmetric, implementation=implementation, positives=form)


@both
@settings(deadline=None, max_examples=60)
@given(
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**32),
    num_slots=st.integers(0, 3),
    num_groups=st.integers(1, 12),
    temperature=st.sampled_from([0.01, 0.05, 1.0]),
    symmetric=st.booleans(),
)
def test_the_loss_equals_the_definition(
    implementation: Implementation,
    form: Form,
    seed: int,
    num_slots: int,
    num_groups: int,
    temperature: float,
    symmetric: bool,
) -> None:
    problem = random_problem(seed, num_slots, num_groups)
    value, gradients = loss_of_rows(problem, _build(form, implementation, temperature, symmetric))
    truth = defined_loss(problem, form, temperature, symmetric)
    assert value.item() == pytest.approx(truth, rel=1e-4, abs=2e-5)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@every_form
@both
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_gradient_is_that_of_the_definition(form: Form, implementation: Implementation, symmetric: bool) -> None:
    problem = random_problem(3, 2, 6)
    _, gradients = loss_of_rows(problem, _build(form, implementation, 0.1, symmetric))
    generator = np.random.default_rng(0)
    for _ in range(6):
        row, column = generator.integers(BATCH), generator.integers(WIDTH)

        def moved(by: float, row: int = row, column: int = column) -> float:
            positives = [rows.clone() for rows in problem.positives]
            positives[row][-1, column] += by
            queries = problem.queries.clone()
            queries[row, column] += by
            parts = {"queries": queries, "positives": positives}
            return defined_loss(Problem(**(vars(problem) | parts)), form, 0.1, symmetric)

        slope = (moved(1e-5) - moved(-1e-5)) / 2e-5
        last = sum(len(listed) - 1 for listed in problem.positives[: row + 1]) - 1
        of_positive = gradients[3][last, column] if len(problem.positives[row]) > 1 else gradients[1][row, column]
        assert (gradients[0][row, column] + of_positive).item() == pytest.approx(slope, rel=2e-3, abs=1e-5)


@every_form
@both
def test_one_positive_a_query_is_the_loss_without_further_ones(form: Form, implementation: Implementation) -> None:
    problem = random_problem(5, 2, 6, most=1)
    loss = _build(form, implementation, symmetric=True)
    value, gradients = loss_of_rows(problem, loss)
    leaves = [
        part.float().requires_grad_() for part in (problem.queries, torch.cat(problem.positives), problem.negatives)
    ]
    plain = loss(*leaves, groups_Q=problem.groups, negative_groups_QN=problem.negative_groups)
    plain.backward()
    assert value.item() == pytest.approx(plain.item(), rel=1e-5)
    for leaf, gradient in zip(leaves, gradients, strict=False):
        assert leaf.grad is not None
        assert (leaf.grad - gradient).norm() <= 1e-5 * leaf.grad.norm()


@every_form
@both
def test_a_batch_without_negatives_has_no_loss_and_no_gradient(form: Form, implementation: Implementation) -> None:
    problem = random_problem(1, 0, 1)
    value, gradients = loss_of_rows(problem, _build(form, implementation, symmetric=True))
    assert value.item() == 0.0
    assert not any(gradient.any() for gradient in gradients)


@both
def test_the_mean_is_steeper_where_one_positive_is_far_and_the_log_sum_where_all_are(
    implementation: Implementation,
) -> None:
    problem = random_problem(2, 2, 50)
    mean, log_sum = (loss_of_rows(problem, _build(form, implementation))[0].item() for form in FORMS)
    assert mean > log_sum > 0


@every_form
def test_an_alignment_takes_the_passages_of_other_groups_whether_they_are_first_positives_or_further_ones(
    form: Form,
) -> None:
    problem = random_problem(4, 0, 6)
    loss = ContrastiveLoss(temperature=0.1, positives=form, alignment=AlignmentConfig(weight=0.5))
    queries, translations = problem.queries.float(), problem.queries.roll(1, 0).float()
    passages = torch.stack([rows[0] for rows in problem.positives]).float()
    further = further_positives(problem)
    translated = Translations(embeddings_AH=translations, translated_A=torch.arange(BATCH))
    common: dict[str, Any] = {"translations": translated, "groups_Q": problem.groups}
    found = loss.terms(queries, passages, further=further, **common)
    alone = loss(queries, passages, groups_Q=problem.groups, further=further)
    assert found.alignment is not None
    assert found.loss.item() == pytest.approx((alone + 0.5 * found.alignment).item())
    slots = torch.full((BATCH, MOST - 1), EMPTY_SLOT)
    negatives = torch.zeros(BATCH, MOST - 1, WIDTH)
    for row, rows in enumerate(problem.positives):
        slots[row, : len(rows) - 1] = problem.groups[row]
        negatives[row, : len(rows) - 1] = rows[1:].float()
    same = loss.terms(queries, passages, negatives, negative_groups_QN=slots, **common).alignment
    assert same is not None
    assert found.alignment.item() == pytest.approx(same.item(), rel=1e-6)


@every_form
@both
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_filter_goes_by_the_score_of_the_passage(form: Form, implementation: Implementation, symmetric: bool) -> None:
    for seed in range(4):
        problem = random_problem(seed, 2, 6)
        loss = _build(form, implementation, 0.1, symmetric)
        loss.filter = FilterConfig(margin=0.2)
        found = terms_of_all(problem, loss)
        assert found.kept_out is not None
        assert found.kept_out > 0
        truth = defined_loss(problem, form, 0.1, symmetric, margin=0.2)
        assert found.loss.item() == pytest.approx(truth, rel=1e-4)
        assert found.loss.item() != pytest.approx(defined_loss(problem, form, 0.1, symmetric), rel=1e-3)


def test_sixteen_bit_embeddings_are_scored_in_float32() -> None:
    problem = random_problem(3, 2, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for form in FORMS:
            value, _ = loss_of_rows(problem, _build(form, "streaming", 0.01))
            assert value.item() == pytest.approx(defined_loss(problem, form, 0.01, False), rel=1e-4)


def test_options_say_how_many_positives_a_batch_carries() -> None:
    assert ContrastiveConfig().most_positives is None
    assert ContrastiveConfig(max_positives=3).most_positives == 3
    assert ContrastiveConfig(positives="one").most_positives == 1
    assert ContrastiveConfig(positives="log-sum").build().positives == "log-sum"
    with pytest.raises(UserError, match=r"loss\.positives one .* loss\.max_positives is 2"):
        ContrastiveConfig(positives="one", max_positives=2)
