"""The invariant of training: neither the number of processes, nor the strategy, nor chunking changes a gradient.

One launch per number of processes and strategy runs all cells: plain and cached, with dropout and without, clipped and
not; the plain ones with the dense loss, the cached ones with the streaming loss, and one of each in a ring over the
processes; two with translations and an alignment term and two with several positives a query, one of each cached,
clipped and in a ring, the aligned one of these with a loss of leading dimensions; two that keep candidates out and
learn from a teacher, one by its own scores, one by a guide's and in a ring; two without padding, and one more with a
frozen backbone and updates of low rank. Without dropout the truth is one process that holds the whole batch at once.
With it (the masks depend on how the batch is shared) the truth is the plain step of the same launch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from hybatch.training.config import StrategyOption
from tests.processes import run_processes
from tests.training.strategy.cells import CELLS, LEARNING_RATE, Cell, run_cells

SEVERAL = tuple(name for name in get_args(StrategyOption) if name not in ("auto", "none"))
LAUNCHES = [
    *((1, name) for name in SEVERAL if name.startswith("zero")),
    *((2, name) for name in (*SEVERAL, "zero2-offload", "zero3-offload")),
    *((4, name) for name in SEVERAL),
]


@pytest.fixture(scope="module")
def whole_batch() -> dict[Cell, Any]:
    """One process, one forward pass, no wrapper, with padding."""
    cells = list(dict.fromkeys(_plain(cell) for cell in CELLS if not cell.dropout))
    return dict(zip(cells, run_cells("none", cells), strict=True))


def _plain(cell: Cell) -> Cell:
    """The same training, all at once and with padding."""
    return replace(cell, cached=False, encoder="padded" if cell.encoder == "unpadded" else cell.encoder)


def _assert_same_training(found: Any, truth: Any) -> None:
    losses, norms, gradients, weights = found
    true_losses, true_norms, true_gradients, true_weights = truth
    assert losses[0] == pytest.approx(true_losses[0], rel=1e-6)
    assert norms[0] == pytest.approx(true_norms[0], rel=1e-5)
    assert gradients.keys() == true_gradients.keys()
    for name, gradient in true_gradients.items():
        assert (gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name
    assert losses == pytest.approx(true_losses, rel=1e-3)
    assert norms == pytest.approx(true_norms, rel=1e-3)
    assert weights.keys() == true_weights.keys()
    for name, weight in true_weights.items():
        assert (weights[name] - weight).abs().max() <= 0.1 * LEARNING_RATE, name


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "name"), LAUNCHES, ids=lambda value: str(value))
def test_every_strategy_trains_as_one_process_on_the_whole_batch(
    processes: int, name: str, whole_batch: dict[Cell, Any]
) -> None:
    of_ranks = run_processes(run_cells, processes, name, CELLS)
    main = dict(zip(CELLS, of_ranks[0], strict=True))
    for cell, found in main.items():
        truth = main[replace(cell, cached=False)] if cell.dropout else whole_batch[_plain(cell)]
        _assert_same_training(found, truth)
        assert cell.max_norm is None or min(found[1]) > cell.max_norm
    for others in of_ranks[1:]:
        for (losses, norms, _, _), (other_losses, other_norms, _, _) in zip(of_ranks[0], others, strict=True):
            assert losses == other_losses
            assert norms == other_norms


@pytest.mark.slow
def test_no_score_is_so_near_its_limit_that_another_way_to_train_would_keep_out_others(
    whole_batch: dict[Cell, Any],
) -> None:
    filtered = next(cell for cell in map(_plain, CELLS) if cell.filtered == "self")
    nearby = [replace(filtered, margin=filtered.margin + shift) for shift in (-0.0015, 0.0015)]
    losses = whole_batch[filtered][0]
    assert [found[0] for found in run_cells("none", nearby)] == [losses] * 2
    (unfiltered,) = run_cells("none", [replace(filtered, filtered=None)])
    assert all(abs(loss - other) > 0.01 * loss for loss, other in zip(losses, unfiltered[0], strict=True))


@pytest.mark.slow
def test_the_matrix_would_notice_clipping_that_is_left_out_and_dropout_that_is_not_replayed(
    whole_batch: dict[Cell, Any],
) -> None:
    unclipped, clipped = (whole_batch[Cell(False, 0.0, norm)] for norm in (None, 0.05))
    with pytest.raises(AssertionError):
        _assert_same_training(unclipped, clipped)
    (dropped,) = run_cells("none", [Cell(True, 0.3, None)])
    with pytest.raises(AssertionError):
        _assert_same_training(dropped, unclipped)
    assert torch.isfinite(torch.tensor(dropped[1])).all()
