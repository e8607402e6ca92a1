"""Which implementation the loss runs in, and what the implementations have in common."""

from __future__ import annotations

import pytest
import torch

from hybatch.losses import EMPTY_SLOT, UNKNOWN_GROUP, ContrastiveInputs, choose_computation, info_nce
from hybatch.losses.info_nce import Computation


def _inputs(queries: torch.Tensor, candidates: torch.Tensor, groups: torch.Tensor) -> ContrastiveInputs:
    rows = torch.arange(len(queries))
    return ContrastiveInputs(
        queries_QH=queries,
        candidates_DH=candidates,
        positive_index_Q=rows,
        query_groups_Q=rows,
        candidate_groups_D=groups,
        temperature=0.05,
    )


def test_auto_streams_as_soon_as_the_matrix_outgrows_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info_nce, "DENSE_LOGITS_BYTES", 4 * 8 * 9)
    assert choose_computation("auto", 8, 9) is info_nce.DENSE
    assert choose_computation("auto", 8, 10) is info_nce.STREAMING


def test_what_is_asked_for_by_name_does_not_depend_on_the_size() -> None:
    assert choose_computation("dense", 10**6, 10**6) is info_nce.DENSE
    assert choose_computation("streaming", 1, 1) is info_nce.STREAMING


both = pytest.mark.parametrize("computation", [info_nce.DENSE, info_nce.STREAMING], ids=["dense", "streaming"])


@both
def test_an_embedding_that_is_not_finite_makes_a_loss_that_is_not(computation: Computation) -> None:
    queries = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    queries[3, 2] = float("nan")
    inputs = _inputs(queries.requires_grad_(), queries.detach(), torch.arange(5))
    assert not computation.info_nce(inputs).isfinite()
    row_lse, _, column_lse = computation.terms(inputs, num_columns=5)
    assert not row_lse.sum().isfinite()
    assert not column_lse.sum().isfinite()


@both
def test_the_terms_add_up_to_the_loss_and_a_candidate_without_queries_gives_no_gradient(
    computation: Computation,
) -> None:
    rows = torch.nn.functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    candidates = rows.clone().requires_grad_()
    inputs = _inputs(rows[:5], candidates, torch.tensor([0, 1, 2, 3, 4, EMPTY_SLOT, UNKNOWN_GROUP]))
    terms = computation.terms(inputs, num_columns=6)
    loss = computation.info_nce(inputs)
    assert (terms.row_lse_Q - terms.positive_logit_Q).sum().item() == pytest.approx(loss.item(), abs=1e-5)
    assert terms.column_lse_D.isfinite().tolist() == [True] * 5 + [False]
    (gradient,) = torch.autograd.grad(terms.column_lse_D[:5].sum() + terms.row_lse_Q.sum(), candidates)
    assert gradient.abs().sum(1).bool().tolist() == [True] * 5 + [False, True]
