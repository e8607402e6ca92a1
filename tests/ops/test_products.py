"""Products in float32 are that, whatever a training script has allowed, and what it has allowed stays so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hybatch.evaluation.collection.topk import TopK
from hybatch.losses.info_nce import DENSE, STREAMING
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.ops import similarity
from hybatch.ops.products import float32_products, inner_products
from tests.ops.conftest import Place
from tests.ops.ranking.cases import assert_counts_equal, random_case

CPU = torch.device("cpu")
SETTINGS = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    legacy = torch.get_float32_matmul_precision()
    before = SETTINGS.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    yield
    torch.set_float32_matmul_precision(legacy)  # which sets those of the backends, too
    SETTINGS.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def _autocast() -> AbstractContextManager[None]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def _legacy() -> AbstractContextManager[None]:
    torch.set_float32_matmul_precision("medium")
    return nullcontext()


def _of_one_backend() -> AbstractContextManager[None]:
    """After this torch.get_float32_matmul_precision() raises an error."""
    SETTINGS.fp32_precision = "bf16"
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    return nullcontext()


ALLOWED = [_autocast, _legacy, _of_one_backend]


@pytest.mark.parametrize("allow", ALLOWED)
def test_a_product_is_float32_and_what_was_allowed_is_so_afterwards(
    allow: Callable[[], AbstractContextManager[None]],
) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 50, 64, generator=generator)
    right = a.double() @ b.double().T
    with allow():
        allowed = SETTINGS.fp32_precision
        with float32_products(CPU):
            assert SETTINGS.fp32_precision == "ieee"
            product = a @ b.T
        assert SETTINGS.fp32_precision == allowed
    assert product.dtype == torch.float32
    torch.testing.assert_close(product.double(), right, atol=1e-4, rtol=0)


def test_what_was_allowed_is_so_after_an_error() -> None:
    SETTINGS.fp32_precision = "bf16"
    with pytest.raises(RuntimeError, match="on purpose"), float32_products(CPU):
        raise RuntimeError("on purpose")
    assert SETTINGS.fp32_precision == "bf16"


@pytest.mark.parametrize("allow", ALLOWED)
def test_ranks_and_best_candidates_do_not_depend_on_it(
    allow: Callable[[], AbstractContextManager[None]], place: Place
) -> None:
    case = random_case(1, queries=50, candidates=700, width=16, groups=3, integers=False)
    right = case.count(place, best=20)
    with allow():
        found = case.count(place, best=20)
    assert_counts_equal(found, right)
    assert found.best is not None
    assert right.best is not None
    for one, other in zip(found.best.tensors(), right.best.tensors(), strict=True):
        assert torch.equal(one, other)


def _rows(seed: int, number: int = 40) -> Tensor:
    rows = torch.randn(number, 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def _inputs(queries: Tensor, candidates: Tensor) -> ContrastiveInputs:
    order = torch.arange(len(queries))
    return ContrastiveInputs(
        queries_QH=queries,
        candidates_DH=candidates,
        positive_index_Q=order,
        query_groups_Q=order,
        candidate_groups_D=order,
        temperature=0.01,
    )


@pytest.mark.parametrize("allow", ALLOWED)
@pytest.mark.parametrize("compute", [DENSE.info_nce, STREAMING.info_nce])
def test_the_loss_and_its_gradients_do_not_depend_on_it(
    allow: Callable[[], AbstractContextManager[None]], compute: Callable[[ContrastiveInputs], Tensor]
) -> None:
    leaves = [_rows(seed).requires_grad_() for seed in (1, 2)]

    def loss_and_gradients() -> tuple[Tensor, ...]:
        loss = compute(_inputs(*leaves))
        return loss, *torch.autograd.grad(loss, leaves)

    right = loss_and_gradients()
    with allow():
        found = loss_and_gradients()
    for one, other in zip(found, right, strict=True):
        assert torch.equal(one, other)


class _Products(TorchDispatchMode):
    """Notes of every matrix product the dtypes of its factors, and the precision that is set."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[set[torch.dtype], str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default):
            self.seen.append(({factor.dtype for factor in args}, SETTINGS.fp32_precision))
        return func(*args, **(kwargs or {}))


LOSSES: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda queries, candidates: DENSE.info_nce(_inputs(queries, candidates)),
    lambda queries, candidates: sum(part.sum() for part in DENSE.terms(_inputs(queries, candidates), num_columns=40)),
    lambda queries, candidates: sum(
        part.sum() for part in DENSE.negatives(_inputs(queries, candidates), num_columns=40)
    ),
    lambda queries, candidates: similarity(queries, candidates, 0.01).square().sum(),
]


@pytest.mark.parametrize("allow", ALLOWED)
@pytest.mark.parametrize("loss", LOSSES, ids=["info_nce", "terms", "negatives", "similarity"])
def test_a_loss_and_its_gradients_take_three_products_and_all_are_float32_on_processors_that_would_round(
    allow: Callable[[], AbstractContextManager[None]], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    leaves = [_rows(seed).requires_grad_() for seed in (1, 2)]
    with allow(), _Products() as products:
        loss(*leaves).backward()
    assert products.seen == [({torch.float32}, "ieee")] * 3


def test_inner_products_have_the_gradients_of_a_product() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, others = (torch.randn(n, 3, dtype=torch.float64, generator=generator).requires_grad_() for n in (4, 5))
    assert torch.equal(inner_products(rows, others), rows @ others.T)
    assert torch.autograd.gradcheck(inner_products, (rows, others))
    assert torch.autograd.gradgradcheck(inner_products, (rows, others))


def test_a_factor_that_wants_no_gradient_costs_no_product() -> None:
    rows, others = _rows(1).requires_grad_(), _rows(2)
    with _Products() as products:
        inner_products(rows, others).sum().backward()
    assert len(products.seen) == 2


@pytest.mark.parametrize("allow", ALLOWED)
def test_the_search_of_a_collection_does_not_depend_on_it(allow: Callable[[], AbstractContextManager[None]]) -> None:
    rows = torch.nn.functional.normalize(torch.randn(2, 200, 16, generator=torch.Generator().manual_seed(1)), dim=2)

    def scores() -> np.ndarray:
        best = TopK(rows[0], 10)
        best.add(rows[1], 0)
        return best.result()[0]

    right = scores()
    with allow():
        np.testing.assert_array_equal(scores(), right)
