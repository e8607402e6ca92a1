"""Leading dimensions and the losses of them against their definitions; over processes see test_contrastive.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.errors import UserError
from hybatch.losses import AlignmentConfig, ContrastiveConfig, ContrastiveLoss, TeacherConfig, Translations
from hybatch.losses.several_positives import Form
from hybatch.losses.truncation import joined_gradient, truncate, truncated
from tests.losses.batches import BATCH, WIDTH
from tests.losses.further import defined_loss, loss_of_rows
from tests.losses.widths import DIMENSIONS, NESTED, Computed, Nested

FORMS: list[Form | None] = [None, "mean", "log-sum"]
both = pytest.mark.parametrize("computed", ["dense", "streaming"])


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), rows=st.integers(0, 9), width=st.integers(1, 7), full=st.integers(8, 40))
def test_leading_dimensions_and_their_gradient_are_those_of_a_slice_that_is_normalised(
    seed: int, rows: int, width: int, full: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_NH = torch.randn(rows, full, dtype=torch.float64, generator=generator).requires_grad_()
    upstream_NM = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    found, expected = truncated(given_NH, width), F.normalize(given_NH[:, :width], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    gradients = [torch.autograd.grad(value, given_NH, upstream_NM)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_all_dimensions_are_the_embeddings_themselves() -> None:
    rows_NH = torch.randn(3, 5, requires_grad=True)
    assert truncated(rows_NH, 5) is rows_NH
    assert truncate(rows_NH, 5).gradient(rows_NH) is rows_NH


def test_a_row_of_zeros_stays_one_and_has_a_gradient_that_is_finite() -> None:
    rows_NH = torch.zeros(2, 6, requires_grad=True)
    cut = truncated(rows_NH, 3)
    assert not cut.any()
    (gradient,) = torch.autograd.grad(cut, rows_NH, torch.zeros(2, 3))
    assert not gradient.any()


def test_sixteen_bit_rows_are_scaled_in_float32_and_their_gradient_comes_back_in_sixteen() -> None:
    rows_NH = torch.randn(4, 8).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cut = truncated(rows_NH, 5)
        (gradient,) = torch.autograd.grad(cut.sum(), rows_NH)
    assert cut.dtype == torch.float32
    torch.testing.assert_close(cut.norm(dim=1), torch.ones(4), rtol=1e-6, atol=0)
    assert gradient.dtype == torch.bfloat16
    assert not gradient[:, 5:].any()


def test_gradients_of_narrower_rows_are_added_into_the_widest() -> None:
    widest = torch.ones(2, 4)
    joined = joined_gradient(iter([widest, torch.ones(2, 3), torch.ones(2, 1)]))
    assert joined is widest
    assert joined.tolist() == [[3, 2, 2, 1]] * 2


@both
@settings(deadline=None, max_examples=25)
@given(
    form=st.sampled_from(FORMS),
    symmetric=st.booleans(),
    margin=st.sampled_from([None, 0.2]),
    slots=st.integers(0, 3),
    num_groups=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_the_loss_and_its_gradients_are_those_of_the_definition(
    computed: Computed, form: Form | None, symmetric: bool, margin: float | None, slots: int, num_groups: int, seed: int
) -> None:
    case = Nested(computed, form, symmetric, margin, slots, num_groups, seed)
    assume(margin is None or case.distance_to_a_limit() > 1e-3)
    case.compare([case.loss_of_rows()])


def test_the_definition_of_all_dimensions_is_that_of_the_loss_without_the_option(monkeypatch: Any) -> None:
    monkeypatch.setattr("tests.losses.widths.DIMENSIONS", {WIDTH: 1.0})
    for case in NESTED:
        expected = defined_loss(case.problem(), case.form or "mean", 0.1, case.symmetric, margin=case.margin)
        assert case.defined()[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", NESTED[:18])
def test_all_dimensions_alone_give_the_loss_without_the_option_bit_for_bit(case: Nested) -> None:
    several = case.form is not None
    alone, without = case.build(), case.build()
    alone.dimensions, without.dimensions = {WIDTH: 1.0}, None
    found, expected = (loss_of_rows(case.problem(), loss, trained=True, several=several) for loss in (alone, without))
    assert torch.equal(found[0], expected[0])
    assert all(map(torch.equal, found[1], expected[1]))


def _rows(*, negatives: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def rows(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, WIDTH, generator=generator), dim=-1)

    return rows(BATCH), rows(BATCH), rows(BATCH, negatives)


LABELS: dict[str, Any] = {"groups_Q": torch.arange(BATCH), "negative_groups_QN": torch.full((BATCH, 2), -1)}


def test_the_loss_of_each_width_stands_beside_their_weighted_sum() -> None:
    rows = _rows()
    terms = ContrastiveLoss(temperature=0.1, dimensions=DIMENSIONS).terms(*rows, **LABELS)
    assert terms.of_widths is not None
    assert list(terms.of_widths) == list(DIMENSIONS)
    for width, loss in terms.of_widths.items():
        cut = (F.normalize(one[..., :width], dim=-1) for one in rows)
        assert loss.item() == pytest.approx(ContrastiveLoss(temperature=0.1)(*cut, **LABELS).item(), rel=1e-6)
    weighted = sum(weight * terms.of_widths[width].item() for width, weight in DIMENSIONS.items())
    assert terms.loss.item() == pytest.approx(weighted, rel=1e-6)


def test_called_as_a_plain_loss_it_measures_whole_embeddings_alone() -> None:
    rows = _rows()
    plain, nested = ContrastiveLoss(temperature=0.1), ContrastiveLoss(temperature=0.1, dimensions=DIMENSIONS)
    assert torch.equal(nested(*rows, **LABELS), plain(*rows, **LABELS))


def test_alignment_and_teacher_go_by_whole_embeddings() -> None:
    rows = _rows()
    terms: dict[str, Any] = {
        "translations": Translations(embeddings_AH=rows[0].roll(1, 0), translated_A=torch.arange(BATCH)),
        "scores_QM": torch.linspace(0, 1, 3 * BATCH).view(BATCH, 3),
    }
    options: dict[str, Any] = {"alignment": AlignmentConfig(weight=0.5), "teacher": TeacherConfig(weight=2.0)}
    nested, plain = (
        ContrastiveLoss(temperature=0.1, dimensions=dimensions, **options).terms(*rows, **LABELS, **terms)
        for dimensions in (DIMENSIONS, None)
    )
    assert nested.alignment is not None
    assert nested.teacher is not None
    assert nested.of_widths is not None
    assert torch.equal(nested.alignment, plain.alignment)
    assert torch.equal(nested.teacher, plain.teacher)
    contrastive = sum(weight * nested.of_widths[width] for width, weight in DIMENSIONS.items())
    assert nested.loss.item() == pytest.approx(float(contrastive + 0.5 * nested.alignment + 2 * nested.teacher))


def test_both_directions_are_of_every_width() -> None:
    rows = _rows()[:2]
    there = ContrastiveLoss(temperature=0.1, dimensions=DIMENSIONS)
    both = there.in_both_directions().terms(*rows, groups_Q=LABELS["groups_Q"])
    back, forward = (there.terms(*pair, groups_Q=LABELS["groups_Q"]) for pair in (rows[::-1], rows))
    assert both.loss.item() == pytest.approx(((back.loss + forward.loss) / 2).item(), rel=1e-6)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dimensions: \[8, 4\], but the embeddings are 6 wide"):
        ContrastiveLoss(temperature=0.1, dimensions={8: 1.0, 4: 1.0}).terms(*_rows(), **LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": []}, r"loss\.dimensions is an empty list"),
        ({"dimensions": [64, 128]}, r"loss\.dimensions is \[64, 128\]: each must be less than the one before it"),
        ({"dimensions": [64, 64]}, r"loss\.dimensions is \[64, 64\]: each must be less than the one before it"),
        ({"dimensions": [64, 0]}, r"loss\.dimensions\.1 is 0: it must be a whole number from 1 to"),
        ({"dimensions": 64}, r"loss\.dimensions is 64: it must be a list"),
        ({"dimension_weights": [1.0]}, r"loss\.dimension_weights is given without loss\.dimensions"),
        ({"dimensions": [64, 8], "dimension_weights": [1.0]}, r"loss\.dimension_weights are 1, loss\.dimensions are 2"),
        (
            {"dimensions": [64, 8], "dimension_weights": [1, -1]},
            r"loss\.dimension_weights\.1 is -1: it must be a number",
        ),
        ({"dimensions": [64, 8], "dimension_weights": [0, 0.0]}, r"loss\.dimension_weights are all 0"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ContrastiveConfig(**options)


def test_options_give_each_of_the_dimensions_its_weight_and_1_by_default() -> None:
    assert ContrastiveConfig().build().dimensions is None
    assert ContrastiveConfig(dimensions=[64, 8]).build().dimensions == {64: 1.0, 8: 1.0}
    weighted = ContrastiveConfig(dimensions=[64, 8], dimension_weights=[0.5, 2])
    assert weighted.build().dimensions == {64: 0.5, 8: 2}
    assert weighted.trained_widths == (64, 8)
    assert weighted.has_terms
    weighted.check_width(64)
    for width in (32, 128):
        with pytest.raises(UserError, match=rf"the embeddings are {width} wide: {width} must stand first"):
            weighted.check_width(width)
