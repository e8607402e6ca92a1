"""The alignment term against its definition, and its equality over numbers of processes, tiles and ways to gather.

Shape suffixes: Q queries, A of them that have a translation, D candidates, H embedding width.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hybatch.errors import UserError
from hybatch.losses import (
    DIVERGENCES,
    EMPTY_SLOT,
    AlignmentConfig,
    ContrastiveConfig,
    ContrastiveInputs,
    ContrastiveLoss,
    TrainingLoss,
    Translations,
    alignment_sum,
)
from hybatch.losses.terms import alignment
from tests.losses.batches import (
    WIDTH,
    Batch,
    Share,
    assert_processes_agree,
    random_batch,
    side_by_side,
    unit_rows,
)

kinds = pytest.mark.parametrize("kind", DIVERGENCES)


@dataclass(frozen=True)
class Problem(Batch):
    """With a translation of every query, of which those of `translated` are used."""

    translations: Tensor
    translated: Tensor
    temperature: float

    @property
    def inputs(self) -> ContrastiveInputs:
        return ContrastiveInputs(
            queries_QH=self.queries,
            candidates_DH=self.candidates,
            positive_index_Q=torch.arange(len(self.queries)),
            query_groups_Q=self.groups,
            candidate_groups_D=self.candidate_groups,
            temperature=self.temperature,
        )


def _problem(seed: int, *, batch: int = 8, slots: int = 2, num_groups: int = 5, temperature: float = 0.05) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    return Problem(
        **random_batch(generator, batch=batch, slots=slots, num_groups=num_groups),
        translations=unit_rows(generator, batch, WIDTH),
        translated=torch.rand(batch, generator=generator) < 0.7,
        temperature=temperature,
    )


def _distribution(problem: Problem, anchor: np.ndarray, own: int) -> np.ndarray:
    """Of one text, which stands for query `own`, over those candidates that the query is compared with."""
    candidates, groups = problem.candidates.numpy(), problem.candidate_groups.tolist()
    taking_part = [j for j, group in enumerate(groups) if j == own or (group != EMPTY_SLOT and group != groups[own])]
    weights = np.array([anchor @ candidates[j] / problem.temperature for j in taking_part])
    weights = np.exp(weights - weights.max())
    return weights / weights.sum()


def _entropy(p: np.ndarray) -> float:
    return -sum(x * math.log(x) for x in p.tolist() if x > 0)


ORACLES = {
    "jsd": lambda p, q: _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2,
    "kl": lambda p, q: (np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))) / 2,
    "mse": lambda p, q: np.sum((p - q) ** 2),
}


def _oracle(problem: Problem, kind: str) -> float:
    """Numpy float64, one query after the other, straight from the definition."""
    total = 0.0
    for own in problem.translated.nonzero().flatten().tolist():
        p, q = (_distribution(problem, rows[own].numpy(), own) for rows in (problem.queries, problem.translations))
        total += float(ORACLES[kind](p, q))
    return total


def _dense(leaves: tuple[Tensor, Tensor, Tensor], problem: Problem, kind: str) -> Tensor:
    """The sum through whole matrices, for torch to differentiate."""
    queries, translations, candidates = leaves
    groups = problem.candidate_groups
    left_out = ((problem.groups[:, None] == groups) & (groups >= 0)) | (groups == EMPTY_SLOT)
    left_out &= torch.arange(len(problem.groups))[:, None] != torch.arange(len(groups))
    p, q = (
        (rows @ candidates.T / problem.temperature).masked_fill(left_out, -math.inf).softmax(1)[problem.translated]
        for rows in (queries, translations)
    )
    if kind == "mse":
        return (p - q).square().sum()
    p, q = p.clamp(min=1e-300), q.clamp(min=1e-300)
    if kind == "kl":
        return ((p - q) * (p.log() - q.log())).sum() / 2
    mean = (p + q) / 2
    return (p * (p / mean).log() + q * (q / mean).log()).sum() / 2


def _leaves(problem: Problem, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    rows = (problem.queries, problem.translations, problem.candidates)
    queries, translations, candidates = (one.to(dtype, copy=True).requires_grad_() for one in rows)
    return queries, translations, candidates


def _tiled(leaves: tuple[Tensor, Tensor, Tensor], problem: Problem, kind: str) -> Tensor:
    queries, translations, candidates = leaves
    inputs = dataclasses.replace(problem.inputs, queries_QH=queries, candidates_DH=candidates)
    rows = problem.translated.nonzero().flatten()
    return alignment_sum(inputs, translations[rows], rows, DIVERGENCES[kind], ring=False)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles that batches as small as these have several of in both directions."""
    monkeypatch.setattr(alignment, "tile_side", lambda device: 3)
    return


@kinds
@pytest.mark.usefixtures("small_tiles")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 11),
    slots=st.integers(0, 3),
    num_groups=st.integers(1, 12),
    temperature=st.sampled_from([0.02, 0.05, 1.0]),
)
def test_the_term_and_its_gradients_are_those_of_the_definition(
    kind: str, seed: int, batch: int, slots: int, num_groups: int, temperature: float
) -> None:
    problem = _problem(seed, batch=batch, slots=slots, num_groups=num_groups, temperature=temperature)
    leaves, others = _leaves(problem), _leaves(problem)
    found, dense = _tiled(leaves, problem, kind), _dense(others, problem, kind)
    assert found.item() == pytest.approx(_oracle(problem, kind), rel=1e-9, abs=1e-12)
    gradients, expected = (torch.autograd.grad(3 * of[0], of[1]) for of in ((found, leaves), (dense, others)))
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@kinds
def test_the_term_is_nothing_for_a_translation_of_the_same_embedding_and_grows_with_the_distance(kind: str) -> None:
    problem = _problem(3, num_groups=100)
    values = []
    for share in (0.0, 0.1, 0.5):
        mixed = F.normalize((1 - share) * problem.queries + share * problem.translations, dim=1)
        near = dataclasses.replace(problem, translations=mixed)
        leaves = _leaves(near, torch.float32)
        value = _tiled(leaves, near, kind)
        values.append(value.item())
        if share == 0:
            assert all(grad.abs().max() < 1e-6 for grad in torch.autograd.grad(value, leaves))
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2]


@kinds
def test_opposite_vectors_at_temperature_001_give_finite_terms_and_gradients(kind: str) -> None:
    problem = _problem(4, num_groups=100, temperature=0.01)
    far = dataclasses.replace(problem, translations=-problem.queries)
    leaves = _leaves(far, torch.float32)
    value = _tiled(leaves, far, kind)
    assert torch.isfinite(value)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(value, leaves))
    assert kind == "kl" or value <= far.translated.sum() * {"jsd": math.log(2), "mse": 2.0}[kind] * (1 + 1e-6)


@kinds
def test_sixteen_bit_embeddings_are_compared_in_float32(kind: str) -> None:
    problem = _problem(5, num_groups=100)
    rounded = [rows.bfloat16() for rows in (problem.queries, problem.translations, problem.passages, problem.negatives)]
    names = ("queries", "translations", "passages", "negatives")
    exact = dataclasses.replace(problem, **{n: rows.double() for n, rows in zip(names, rounded, strict=True)})
    leaves = _leaves(exact, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = _tiled(leaves, exact, kind)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(_oracle(exact, kind), rel=1e-4)


class _LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor that was made."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


def test_no_matrix_of_queries_by_candidates_is_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "tile_side", lambda device: 16)
    problem = _problem(6, batch=200, slots=1, num_groups=1000)
    leaves = _leaves(problem, torch.float32)
    with _LargestTensor() as largest:
        _tiled(leaves, problem, "jsd").backward()
    assert largest.elements == 2 * 200 * 6  # all embeddings


Case = tuple[str, int, int, bool, str]
CASES: list[Case] = [
    (kind, slots, groups, symmetric, gather)
    for kind, (slots, groups, symmetric) in zip(DIVERGENCES, itertools.cycle([(2, 3, True), (0, 50, False)]))
    for gather in ("all", "ring")
]


def _share(case: Case, rows: slice, gather: str | None = None) -> Share:
    """Loss and alignment of the given rows, and gradients."""
    kind, slots, groups, symmetric, own_gather = case
    whole = _problem(7, slots=slots, num_groups=groups, temperature=0.1)
    # Of four processes one has none at all.
    whole.translated[:2] = False
    leaves, translations = whole.leaves(rows), whole.translations[rows].float().requires_grad_()
    loss = ContrastiveLoss(
        temperature=whole.temperature,
        symmetric=symmetric,
        gather=gather or own_gather,  # type: ignore[arg-type]
        alignment=AlignmentConfig(kind=kind, weight=0.7),
    )
    translated = whole.translated[rows].nonzero().flatten()
    given = Translations(embeddings_AH=translations[translated], translated_A=translated)
    terms = loss.terms(**whole.compared(leaves, rows), translations=given)
    terms.loss.backward()
    assert terms.alignment is not None
    return Share((terms.loss.detach(), terms.alignment), side_by_side([*leaves, translations]))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_hold_the_loss_and_gradients_of_one_process_on_the_whole_batch(world_size: int) -> None:
    for of_processes in assert_processes_agree(_share, CASES, world_size):
        assert of_processes[0].shares[1] == 0 or world_size == 2


@kinds
def test_the_loss_is_the_contrastive_one_and_the_weighted_mean_of_the_term(kind: str) -> None:
    case = (kind, 2, 50, True, "all")
    loss, apart = _share(case, slice(None)).shares
    whole = _problem(7, slots=2, num_groups=50, temperature=0.1)
    whole.translated[:2] = False
    assert apart.item() == pytest.approx(_oracle(whole, kind) / 8, rel=1e-4)
    alone = ContrastiveLoss(temperature=0.1, symmetric=True)(**whole.compared(whole.leaves()))
    assert loss.item() == pytest.approx(alone.item() + 0.7 * apart.item(), rel=1e-6)


def test_a_loss_without_alignment_is_asked_for_none_and_one_with_it_is_not_left_without_translations() -> None:
    plain, aligning = ContrastiveConfig().build(), ContrastiveConfig(alignment=AlignmentConfig()).build()
    assert isinstance(plain, TrainingLoss)
    rows = torch.eye(2)
    given = Translations(embeddings_AH=rows[:0], translated_A=torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="translations: not None, but the loss does not ask for them"):
        plain.terms(rows, rows, translations=given, groups_Q=torch.arange(2))
    with pytest.raises(ValueError, match="translations: None, but the loss asks for them"):
        aligning.terms(rows, rows, groups_Q=torch.arange(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -0.1}, r"loss\.alignment\.weight is -0\.1: it must be a number from 0 to"),
        ({"weight": math.nan}, r"loss\.alignment\.weight is nan"),
        ({"kind": "cosine"}, r"loss\.alignment\.kind is 'cosine': it must be one of jsd, kl, mse"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AlignmentConfig(**options)
