"""The public contrastive functions: gradients, dtypes, memory, and what bad input gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybatch.ops import BackendError, backend, contrastive_terms, info_nce
from hybatch.ops.contrastive import streaming, tiling
from tests.ops.conftest import Place
from tests.ops.contrastive.oracle import Problem, make_problem, reference


def _loss(problem: Problem, place: Place, **options: Any) -> Tensor:
    arguments = {**problem.labels(), "temperature": problem.temperature, "backend": place.backend, **options}
    return info_nce(problem.queries, problem.candidates, **arguments)


def _double_leaves(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    temperature = torch.tensor(problem.temperature, dtype=torch.float64, requires_grad=True)
    return problem.queries.double().requires_grad_(), problem.candidates.double().requires_grad_(), temperature


@pytest.mark.parametrize("block_size", [None, 4])
def test_gradients_of_the_loss_are_those_of_finite_differences(block_size: int | None) -> None:
    problem = make_problem(0, 6, 11, 5, num_groups=4)

    def loss(queries: Tensor, candidates: Tensor, temperature: Tensor) -> Tensor:
        return info_nce(queries, candidates, **problem.labels(), temperature=temperature, block_size=block_size)

    assert torch.autograd.gradcheck(loss, _double_leaves(problem))


@pytest.mark.parametrize("block_size", [None, 4])
def test_gradients_of_the_terms_are_those_of_finite_differences(block_size: int | None) -> None:
    problem = make_problem(1, 6, 11, 5, num_groups=4)
    problem.candidate_groups.clamp_(min=-1)

    def terms(queries: Tensor, candidates: Tensor, temperature: Tensor) -> tuple[Tensor | None, ...]:
        labels = problem.labels()
        return contrastive_terms(
            queries, candidates, **labels, temperature=temperature, columns=True, block_size=block_size
        )

    assert torch.autograd.gradcheck(terms, _double_leaves(problem))


def test_one_pass_and_two_give_the_same_loss_and_gradients(place: Place) -> None:
    problem = make_problem(2, 50, 80, 16, device=place.device)
    queries, candidates = problem.queries.requires_grad_(), problem.candidates.requires_grad_()
    one_pass = _loss(problem, place)
    labels = problem.labels()
    terms = contrastive_terms(queries, candidates, **labels, temperature=problem.temperature, backend=place.backend)
    assert terms.column_lse_D is None
    two_passes = (terms.row_lse_Q - terms.positive_logit_Q).sum()
    torch.testing.assert_close(one_pass, two_passes)
    for first, second in zip(
        torch.autograd.grad(3 * one_pass, (queries, candidates)),
        torch.autograd.grad(3 * two_passes, (queries, candidates)),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_learnable_temperature_receives_its_gradient(place: Place) -> None:
    problem = make_problem(3, 20, 30, 8, device=place.device)
    temperature = torch.tensor(problem.temperature, device=place.device, requires_grad=True)
    value = _loss(problem, place, temperature=temperature)
    ones_Q = torch.ones(20, device=place.device)
    true = reference(problem, ones_Q, -ones_Q, None)
    value.backward()
    assert temperature.grad is not None
    assert temperature.grad.item() == pytest.approx(-true.grad_scale.item() / problem.temperature**2, rel=1e-4)


def test_without_gradient_the_loss_is_the_same_and_only_the_forward_pass_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem(4, 20, 30, 8)
    place = Place("torch", "cpu")
    wanted = _loss(replace(problem, queries=problem.queries.clone().requires_grad_()), place)
    monkeypatch.setattr(streaming, "contrastive_forward_backward", lambda *_, **__: pytest.fail("was called"))
    with torch.no_grad():
        assert torch.equal(_loss(problem, place), wanted)


def test_sixteen_bit_embeddings_under_autocast_get_gradients_of_their_dtype(place: Place) -> None:
    problem = make_problem(5, 20, 30, 8, dtype=torch.bfloat16, device=place.device)
    problem.queries.requires_grad_()
    with torch.autocast(place.device, dtype=torch.bfloat16):
        value = _loss(problem, place)
    (gradient,) = torch.autograd.grad(value, problem.queries)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)


def test_differentiating_twice_is_refused(place: Place) -> None:
    problem = make_problem(6, 5, 6, 4, device=place.device)
    problem.queries.requires_grad_()
    (gradient,) = torch.autograd.grad(_loss(problem, place).square(), problem.queries, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_compiled_caller_gets_the_same_loss(place: Place) -> None:
    problem = make_problem(7, 20, 30, 8, device=place.device)
    compiled = torch.compile(lambda: 2 * _loss(problem, place), backend="eager")
    assert torch.equal(compiled(), 2 * _loss(problem, place))


class _LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation has given back."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.elements = max(self.elements, leaf.numel())
        return result


def _terms_total(queries: Tensor, candidates: Tensor, **options: Any) -> Tensor:
    terms = contrastive_terms(queries, candidates, columns=True, **options)
    assert terms.column_lse_D is not None
    return (terms.row_lse_Q - terms.positive_logit_Q).sum() + terms.column_lse_D.sum()


@pytest.mark.parametrize("backend_name", ["torch", "blas"])
@pytest.mark.parametrize("loss", [info_nce, _terms_total])
@pytest.mark.parametrize("tile_bytes", [2**16, 2**19])
def test_no_tensor_outgrows_the_tile_and_the_embeddings(
    backend_name: str, loss: Callable[..., Tensor], tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits would have 2^20 elements. The smaller tiles cut rows and columns, the larger rows alone."""
    if (reason := backend.why_missing(backend_name, "contrastive")) is not None:
        pytest.skip(reason)
    monkeypatch.setitem(tiling._TILE_BYTES, "cpu", (tile_bytes, tile_bytes))
    problem = make_problem(8, 1024, 1024, 16)
    with _LargestTensor() as largest:
        queries, candidates = problem.queries.requires_grad_(), problem.candidates.requires_grad_()
        loss(queries, candidates, **problem.labels(), temperature=0.05, backend=backend_name).backward()
    places_past_the_columns = 128 * 32 if backend_name == "blas" else 0  # tiles have 128 rows
    assert largest.elements <= max(tile_bytes // 4, 1024 * 16) + places_past_the_columns


THREE = torch.zeros(3, dtype=torch.int64)
BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temperature": 0.0}, ValueError, "temperature: must be greater than 0"),
    ({"temperature": float("nan")}, ValueError, "temperature: must be greater than 0"),
    ({"temperature": torch.tensor(-1.0)}, ValueError, "temperature: must be greater than 0"),
    ({"temperature": torch.ones(1)}, ValueError, "temperature: expected a tensor without dimensions"),
    ({"temperature": "0.05"}, TypeError, "temperature: expected a number or a tensor, got str"),
    ({"positive_index_Q": THREE}, ValueError, "positive_index: expected 5 entries, got 3"),
    ({"positive_index_Q": torch.full((5,), 8)}, ValueError, "positive_index: entry 0 is 8, outside"),
    ({"query_groups_Q": THREE}, ValueError, "query_groups: expected 5 entries, got 3"),
    ({"candidate_groups_D": torch.zeros(8)}, TypeError, "candidate_groups: expected integers, got torch.float32"),
    ({"backend": "gpu"}, ValueError, "backend='gpu': no such backend"),
    ({"block_size": 0}, ValueError, "block_size: expected 1 or more, got 0"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _loss(make_problem(9, 5, 8, 4), Place("auto", "cpu"), **options)


def test_bad_embeddings_are_named_with_their_row(place: Place) -> None:
    problem = make_problem(10, 5, 8, 4, device=place.device)
    for name in ("queries", "candidates"):
        rows = getattr(problem, name).clone()
        rows[3, 1] = float("inf")
        with pytest.raises(ValueError, match=f"{name}: row 3 holds a NaN or an infinity"):
            _loss(replace(problem, **{name: rows}), place)
        with pytest.raises(TypeError, match=f"{name}: expected float32, bfloat16, float16 or float64, got torch.int64"):
            _loss(replace(problem, **{name: rows.long()}), place)
        with pytest.raises(ValueError, match=rf"{name}: expected shape \[rows, width\]"):
            _loss(replace(problem, **{name: rows[0]}), place)
    with pytest.raises(ValueError, match="candidates: rows have width 3, queries have width 4"):
        _loss(replace(problem, candidates=problem.candidates[:, :3]), place)


def test_unchecked_values_that_are_not_finite_show_in_the_loss(place: Place) -> None:
    problem = make_problem(11, 5, 8, 4, device=place.device)
    for bad in (float("nan"), float("inf")):
        problem.candidates[int(problem.positive_index[0]), 0] = bad
        assert not _loss(problem, place, validate=False).isfinite()


def test_float64_is_for_the_torch_backend() -> None:
    problem = make_problem(12, 5, 8, 4, dtype=torch.float64)
    assert _loss(problem, Place("auto", "cpu")).dtype == torch.float64
    for compiled in ("cpu", "blas"):
        with pytest.raises(TypeError, match="queries: float64 is for the torch backend"):
            _loss(problem, Place(compiled, "cpu"))


def test_a_library_without_these_kernels_says_so_and_leaves_them_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_load", lambda name: None)
    monkeypatch.setattr(backend, "_has_kernel", lambda op, name: not op.startswith("contrastive"))
    with pytest.raises(BackendError, match=r"_cpu\.so holds no cpu kernel for contrastive_forward, "):
        _loss(make_problem(13, 5, 8, 4), Place("cpu", "cpu"))
    assert backend.choose_backend(torch.device("cpu"), family="contrastive") == "torch"
    assert backend.choose_backend(torch.device("cpu"), family="ranking") == "cpu"


def test_a_library_from_before_the_blas_backend_says_so_and_serves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_load", lambda name: None)
    monkeypatch.setattr(backend, "_has_kernel", lambda op, name: not op.endswith(("sums_", "weights_")))
    with pytest.raises(
        BackendError, match=r"_cpu\.so holds no blas kernel for contrastive_add_sums_, .*another version"
    ):
        _loss(make_problem(14, 5, 8, 4), Place("blas", "cpu"))
    assert backend.usable_backends(torch.device("cpu"), "contrastive") == ("cpu", "torch")
