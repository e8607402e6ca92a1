"""The invariant of the step: the number of processes and the chunking change nothing but rounding."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from hybatch.losses import AlignmentConfig, ContrastiveLoss
from hybatch.processes import rank, sum_over_processes, world_size
from hybatch.sampling.companions.translations import NO_LANGUAGE, translation_languages
from hybatch.training.step.batches import BatchLoader
from hybatch.training.step.caching import cached_backward, plain_backward
from hybatch.training.step.chunks import Cutting
from hybatch.training.step.engine import StepEngine
from hybatch.training.step.optimizer import build_adamw
from hybatch.training.strategy import ReplicatedStrategy
from tests.processes import run_processes
from tests.training.tiny import TinyEncoder, TinySampler, gradients, tokenize, translating_sampler

STEPS = 20
LEARNING_RATE = 1e-2
# chunk size, hard negatives, number of passage groups (few: many masks), symmetric
CASES = list(itertools.product((None, 1, 2), (0, 2), (3, 1000), (False, True)))
# chunk size, kind of alignment, way to gather; steps of a batch of questions and of one of translations
ALIGNED = [(None, "jsd", "all"), (2, "kl", "ring"), (1, "mse", "all"), (None, "jsd", "ring")]
ALIGNED_STEPS = (1, 3)
TRAJECTORIES = [(None, 0, 1000, False), (None, 2, 3, True), (1, 2, 3, True), (2, 0, 1000, False)]


def _parts(
    chunk_size: int | None, negatives: int, groups: int, symmetric: bool, dropout: float = 0.0
) -> tuple[ReplicatedStrategy, ContrastiveLoss, BatchLoader]:
    encoder = TinyEncoder(dropout=dropout)
    optimizer = build_adamw(encoder, learning_rate=1.0, weight_decay=1e-2, betas=(0.9, 0.999), epsilon=1e-8)
    sampler: Any = TinySampler(num_groups=groups, num_negatives=negatives)
    loader = BatchLoader(
        sampler=sampler,
        tokenize=tokenize,
        rank=rank(),
        world_size=world_size(),
        cutting=Cutting(chunk_size=chunk_size),
        hard_negatives=negatives,
        seed=5,
    )
    return ReplicatedStrategy(encoder, optimizer), ContrastiveLoss(temperature=0.05, symmetric=symmetric), loader


def _loss_and_gradients(
    *case: Any, cached: bool | None = None, **options: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    strategy, loss, loader = _parts(*case, **options)
    cached = case[0] is not None if cached is None else cached
    value = (cached_backward if cached else plain_backward)(strategy, loss, loader.load(3))
    return sum_over_processes(value.loss).item() / world_size(), gradients(strategy.encoder)


def _aligned(chunk_size: int | None, kind: str, gather: Any) -> list[tuple[float, float, dict[str, torch.Tensor]]]:
    """Loss, alignment and gradients of steps with translations."""
    loss = ContrastiveLoss(temperature=0.1, gather=gather, alignment=AlignmentConfig(kind=kind, weight=2.0))
    found = []
    for step in ALIGNED_STEPS:
        strategy, _, loader = _parts(chunk_size, 2, 3, False)
        loader = replace(loader, sampler=translating_sampler(batch_size=8), translations=True, has_terms=True)
        terms = (plain_backward if chunk_size is None else cached_backward)(strategy, loss, loader.load(step))
        assert terms.alignment is not None
        value, apart = (sum_over_processes(part).item() / world_size() for part in (terms.loss, terms.alignment))
        found.append((value, apart, gradients(strategy.encoder)))
    return found


def _trajectory(*case: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Gradient norms and final weights of 20 steps, every one of which is clipped."""
    strategy, loss, loader = _parts(*case)
    engine = StepEngine(
        strategy=strategy,
        loss=loss,
        cached=case[0] is not None,
        learning_rate_at=lambda step: LEARNING_RATE * (1 - step / STEPS),
        max_grad_norm=0.1,
    )
    norms = [engine.step(loader.load(step)).grad_norm for step in range(STEPS)]
    assert min(norms) > 0.1
    return norms, strategy.encoder.state_dict()


def _every_case() -> tuple[list[Any], list[Any], list[Any]]:
    return (
        [_loss_and_gradients(*case) for case in CASES],
        [_trajectory(*case) for case in TRAJECTORIES],
        [step for case in ALIGNED for step in _aligned(*case)],
    )


def _assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], relative: float) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert (value - other[name]).norm() <= relative * value.norm(), name


@pytest.fixture(scope="module")
def whole_batch() -> tuple[list[Any], list[Any], list[Any]]:
    """The reference: one process, no chunks."""
    gradients_of_cases = [_loss_and_gradients(None, *case[1:]) for case in CASES]
    aligned = [step for _, kind, _ in ALIGNED for step in _aligned(None, kind, "all")]
    return gradients_of_cases, [_trajectory(None, *case[1:]) for case in TRAJECTORIES], aligned


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_loss_gradients_and_trajectory_equal_one_process_on_the_whole_batch(
    num_processes: int, whole_batch: tuple[list[Any], list[Any], list[Any]]
) -> None:
    for of_cases, of_trajectories, of_aligned in run_processes(_every_case, num_processes):
        for (loss, grads), (true_loss, true_grads) in zip(of_cases, whole_batch[0], strict=True):
            assert loss == pytest.approx(true_loss, rel=1e-6)
            _assert_close(true_grads, grads, 1e-5)
        for (norms, weights), (true_norms, true_weights) in zip(of_trajectories, whole_batch[1], strict=True):
            assert norms == pytest.approx(true_norms, rel=1e-3)
            for name, weight in true_weights.items():
                assert (weight - weights[name]).abs().max() <= 0.1 * LEARNING_RATE, name

        for (loss, apart, grads), (true_loss, true_apart, true_grads) in zip(of_aligned, whole_batch[2], strict=True):
            assert (loss, apart) == pytest.approx((true_loss, true_apart), rel=1e-5)
            _assert_close(true_grads, grads, 1e-5)


def test_the_aligned_steps_are_of_questions_and_of_translations_and_lack_some() -> None:
    sampler = translating_sampler(batch_size=8)
    batches = [sampler.batch(step) for step in ALIGNED_STEPS]
    assert [batch.kind == "bitext" for batch in batches] == [False, True]
    missing = translation_languages(sampler, batches[0]) == NO_LANGUAGE
    assert 0 < missing[:4].sum() != missing[4:].sum()


def _with_dropout() -> list[Any]:
    case = (2, 2, 3, True)
    return [_loss_and_gradients(*case, cached=cached, dropout=0.4) for cached in (False, True)]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_cached_replays_the_dropout_of_the_first_pass(num_processes: int) -> None:
    for (plain_loss, plain), (cached_loss, cached) in run_processes(_with_dropout, num_processes):
        assert cached_loss == pytest.approx(plain_loss, rel=1e-6)
        _assert_close(plain, cached, 1e-5)


def test_dropout_differs_between_steps_and_between_chunks() -> None:
    strategy, _, loader = _parts(4, 0, 1000, False, dropout=0.4)
    seeds = {chunk.seed for step in range(3) for chunk in loader.load(step).chunks}
    assert len(seeds) == 3 * 4
    first, second = loader.load(0), loader.load(0)
    assert torch.equal(strategy.encode(first.chunks), strategy.encode(second.chunks))


def test_sixteen_bit_autocast_stays_near_the_full_precision_gradient() -> None:
    case = (2, 0, 1000, False)
    _, exact = _loss_and_gradients(*case)
    strategy, loss, loader = _parts(*case)
    rounded = ReplicatedStrategy(strategy.encoder, strategy.optimizer, autocast_dtype=torch.bfloat16)
    cached_backward(rounded, loss, loader.load(3))
    _assert_close(exact, gradients(strategy.encoder), 0.05)
