"""Products in float32 are that, whatever a training script has allowed, and what it has allowed stays so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import pytest
import torch

from hybatch.evaluation.collection.topk import TopK
from hybatch.losses.info_nce import DENSE, STREAMING
from hybatch.losses.inputs import ContrastiveInputs
from hybatch.ops.products import float32_products
from tests.ops.conftest import Place
from tests.ops.ranking.cases import assert_counts_equal, random_case

CPU = torch.device("cpu")
SETTINGS = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    before = SETTINGS.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    yield
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


@pytest.mark.parametrize("allow", ALLOWED)
@pytest.mark.parametrize("compute", [DENSE.info_nce, STREAMING.info_nce])
def test_the_loss_does_not_depend_on_it(
    allow: Callable[[], AbstractContextManager[None]], compute: Callable[[ContrastiveInputs], torch.Tensor]
) -> None:
    rows = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    order = torch.arange(len(rows))
    inputs = ContrastiveInputs(
        queries_QH=rows,
        candidates_DH=rows.roll(1, dims=1),
        positive_index_Q=order,
        query_groups_Q=order,
        candidate_groups_D=order,
        temperature=0.01,
    )
    right = compute(inputs)
    with allow():
        assert torch.equal(compute(inputs), right)


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
