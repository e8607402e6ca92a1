"""The languages of the best candidates, against a stable sort of all candidates by exact scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.evaluation.settings import top_candidates
from hybatch.evaluation.settings.top_candidates import Pool, best_languages, language_counts
from hybatch.ops.backend import why_missing
from hybatch.ops.ranking.backend import ranking_ops

BACKENDS = [name for name in ("torch", "cpu") if why_missing(name) is None]


def _sorted_languages(
    queries: torch.Tensor, candidates: torch.Tensor, groups: torch.Tensor, pools: list[Pool], backend: str
) -> list[np.ndarray]:
    """[Q, k] of every pool by sorting, for each query, the op's scores of all candidates."""
    everything = torch.arange(len(candidates))
    rows: list[list[np.ndarray]] = [[] for _ in pools]
    for query in queries:
        offsets = torch.tensor([0, len(candidates)])
        scores = ranking_ops(backend).pair_scores(query[None], candidates, offsets, "fp32", everything)
        order = np.argsort(-scores.double().numpy(), kind="stable")
        for found, pool in zip(rows, pools, strict=True):
            inside = [c for c in order if any(span.start <= c < span.stop for span in pool.spans)]
            found.append(groups.numpy()[inside[: pool.places]])
    return [np.array(found) for found in rows]


def _pools(count: int) -> list[Pool]:
    """All candidates; one and several of the best of some of them."""
    spans = [slice(min(3, count - 1), min(40, count)), *([slice(60, count)] if count > 60 else [])]
    return [Pool([slice(0, count)], 100), Pool(spans, 1), Pool(spans, 50)]


def _found(
    queries: torch.Tensor, candidates: torch.Tensor, groups: torch.Tensor, backend: str, pools: list[Pool]
) -> list[np.ndarray]:
    tiles = list(best_languages(queries, candidates, groups, pools, backend=backend))
    return [np.concatenate(parts) for parts in zip(*tiles, strict=True)]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 900), kind=st.sampled_from(["random", "whole", "close"]))
def test_the_languages_of_every_pool_are_those_of_a_stable_sort_by_the_scores_of_the_op(
    backend: str, seed: int, count: int, kind: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, candidates = (torch.randn(n, 24, generator=generator) for n in (3, count))
    if kind == "whole":  # many equal scores
        queries, candidates = queries.round(), candidates.round()
    if kind == "close":  # scores that differ by less than their rounding
        candidates = torch.nn.functional.normalize(1 + 1e-7 * candidates, dim=1)
    groups = torch.randint(4, (count,), generator=generator)
    groups[0] = 3
    pools = _pools(count)
    found = _found(queries, candidates, groups, backend, pools)
    for mine, theirs in zip(found, _sorted_languages(queries, candidates, groups, pools, backend), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_copies_of_one_candidate_are_taken_in_the_order_of_the_pool() -> None:
    candidates = torch.ones(300, 5) / 3
    groups = torch.arange(300) // 60
    found, some = _found(torch.ones(2, 5), candidates, groups, "torch", [*_pools(300)[:1], Pool([slice(70, 90)], 30)])
    np.testing.assert_array_equal(found, [[0] * 60 + [1] * 40] * 2)
    np.testing.assert_array_equal(some, [[1] * 20] * 2)
    np.testing.assert_array_equal(language_counts(found, 5), [[20, 0, 0, 0, 0], [120, 80, 0, 0, 0]])


def test_neither_the_size_of_a_tile_nor_what_training_allows_changes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, candidates = (torch.randn(n, 16, generator=generator) for n in (50, 700))
    groups = torch.randint(3, (700,), generator=generator)
    [whole] = _found(queries, candidates, groups, "torch", _pools(700)[:1])
    monkeypatch.setattr(top_candidates, "_TILE_SCORES", 700 * 7)
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(_found(queries, candidates, groups, "torch", _pools(700)[:1])[0], whole)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.gpu
def test_a_gpu_counts_as_the_cpu_does() -> None:
    if not torch.cuda.is_available() or why_missing("cuda") is not None:
        pytest.skip("needs a CUDA device and the compiled CUDA ops")
    generator = torch.Generator().manual_seed(2)
    queries, candidates = (torch.nn.functional.normalize(torch.randn(n, 64, generator=generator)) for n in (200, 5000))
    groups = torch.randint(7, (5000,), generator=generator)
    on_gpu = [tensor.cuda() for tensor in (queries, candidates, groups)]
    found = _found(*on_gpu, "cuda", _pools(5000))
    for mine, theirs in zip(found, _found(queries, candidates, groups, BACKENDS[-1], _pools(5000)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
