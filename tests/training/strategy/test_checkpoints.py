"""What a strategy saves, itself and every other takes up."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from hybatch.errors import UserError
from hybatch.processes import rank
from hybatch.training.config import StrategyOption
from hybatch.training.strategy import Strategy
from tests.processes import run_processes
from tests.training.strategy.cells import Cell, tiny_strategy, train_steps
from tests.training.strategy.planted import Planted

NAMES = tuple(name for name in get_args(StrategyOption) if name not in ("auto", "none"))
# Of its parameters some learn, some are frozen and used, some frozen and not used.
CELL = Cell(cached=True, dropout=0.3, max_norm=0.05, lora=True)
TAKING_UP = Cell(cached=True, lora=True)
SAVED, END = 3, 5
# Keys that a DeepSpeed file may set, at other values than their defaults.
ALLOWED_OTHERWISE = {
    "contiguous_gradients": False,
    "overlap_comm": True,
    "reduce_scatter": False,
    "reduce_bucket_size": 100,
    "use_multi_rank_bucket_allreduce": False,
    "allgather_partitions": False,
    "allgather_bucket_size": 100,
    "ignore_unused_parameters": False,
    "stage3_max_live_parameters": 10,
    "stage3_max_reuse_distance": 0,
    "stage3_model_persistence_threshold": 10,
    "enable_sanity_checks": True,
}


def _trained(name: str, folder: Path) -> list[dict[str, Tensor]]:
    """Train, saving on the way; return the weights at the save and at the end (main process)."""
    strategy = tiny_strategy(name, CELL)
    train_steps(strategy, CELL, range(SAVED))
    if rank() == 0:
        folder.mkdir()
    dist.barrier()
    strategy.save(folder)
    dist.barrier()
    weights = [strategy.state_dict()]
    train_steps(strategy, CELL, range(SAVED, END))
    return [*weights, strategy.state_dict()]


def _moments(strategy: Strategy) -> dict[str, Tensor]:
    """exp_avg of every parameter, whole."""
    learning = {name: p for name, p in strategy.encoder.named_parameters() if p.requires_grad}
    if strategy.name.startswith("zero"):
        from deepspeed.utils import safe_get_full_optimizer_state

        return {name: safe_get_full_optimizer_state(p, "exp_avg") for name, p in learning.items()}
    moments = {name: strategy.optimizer.state[p]["exp_avg"] for name, p in learning.items()}  # type: ignore[attr-defined]
    return {name: (m.full_tensor() if strategy.name == "fsdp2" else m).clone() for name, m in moments.items()}


def _load_planted(name: str, source: Path, folder: Path) -> str:
    """What is said of a checkpoint of DeepSpeed with code in every file."""
    if rank() == 0:
        shutil.copytree(source, folder)
        for path in (folder / "zero").glob("*.pt"):
            torch.save({**torch.load(path, weights_only=False), "more": Planted(folder / "ran")}, path)
    dist.barrier()
    try:
        tiny_strategy(name, CELL).load(folder)
    except UserError as error:
        return str(error)
    return "loaded"


def _save_and_resume(root: Path) -> dict[str, Any]:
    """Of every strategy: weights at the save and at the end of a whole run, and at the end of a resumed one.

    Of DeepSpeed's stages also the weights at the end under other values of what a file may set, and what is said of a
    checkpoint that holds code.
    """
    results: dict[str, Any] = {}
    for name in NAMES:
        whole = _trained(name, root / name)
        resumed = tiny_strategy(name, CELL)
        resumed.load(root / name)
        train_steps(resumed, CELL, range(SAVED, END))
        results[name] = (*whole, resumed.state_dict())
        if name.startswith("zero"):
            otherwise = tiny_strategy(name, CELL, **ALLOWED_OTHERWISE)
            train_steps(otherwise, CELL, range(END))
            results[f"otherwise {name}"] = otherwise.state_dict()
            results[f"planted {name}"] = _load_planted(name, root / name, root / f"planted-{name}")
    return results


def _take_up_all(root: Path, names: list[str], writers: list[str]) -> dict[tuple[str, str], Any]:
    """Load every writer's checkpoint into every strategy: weights, moments, and weights two steps on."""
    results = {}
    for name in names:
        for writer in writers:
            strategy = tiny_strategy(name, TAKING_UP)
            strategy.load(root / writer)
            loaded = strategy.state_dict(), _moments(strategy)
            train_steps(strategy, TAKING_UP, range(SAVED, END))
            results[name, writer] = (*loaded, strategy.state_dict())
    return results


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("strategies")
    return root, run_processes(_save_and_resume, 2, root)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_strategy_ends_bitwise_where_the_undisturbed_one_ends(
    name: str, saved: tuple[Path, dict[str, Any]]
) -> None:
    at_save, at_end, resumed = saved[1][name]
    assert any(not torch.equal(at_save[key], at_end[key]) for key in at_end)
    for key, weight in at_end.items():
        assert torch.equal(weight, resumed[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_checkpoint_holds_a_frozen_weight(name: str, saved: tuple[Path, dict[str, Any]]) -> None:
    """Each frozen matrix is looked for by its first bytes, and one that learns is found by them."""
    root, _ = saved
    files = [path.read_bytes() for path in (root / name).rglob("*") if path.is_file()]
    frozen = {key: p for key, p in CELL.build_encoder().named_parameters() if not p.requires_grad and p.ndim == 2}
    assert len(frozen) == 11
    for key, parameter in frozen.items():
        start = parameter.detach().flatten()[:4].numpy().tobytes()
        assert not any(start in content for content in files), key
    learning = saved[1][name][0]["words.weight"].flatten()[:4].numpy().tobytes()
    assert any(learning in content for content in files)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("zero")])
def test_what_a_deepspeed_file_may_set_changes_no_bit(name: str, saved: tuple[Path, dict[str, Any]]) -> None:
    _, at_end, _ = saved[1][name]
    for key, weight in saved[1][f"otherwise {name}"].items():
        assert torch.equal(weight, at_end[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("zero")])
def test_code_planted_in_a_checkpoint_of_deepspeed_does_not_run(name: str, saved: tuple[Path, dict[str, Any]]) -> None:
    root, results = saved
    assert "may be code that somebody planted there" in results[f"planted {name}"]
    assert not (root / f"planted-{name}" / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_every_strategy_takes_up_what_any_wrote_on_another_number_of_processes(
    processes: int, saved: tuple[Path, dict[str, Any]]
) -> None:
    """Three processes do not divide the parameters: the last one's part is padded."""
    root, truth = saved
    names = ["none", "zero2"] if processes == 1 else list(NAMES)
    found = run_processes(functools.partial(_take_up_all, root), processes, names, list(NAMES))[0]
    reference = {writer: found[names[0], writer] for writer in NAMES}
    for (name, writer), (weights, moments, later) in found.items():
        for key, weight in weights.items():
            assert torch.equal(weight, truth[writer][0][key]), (name, writer, key)
        _, true_moments, true_later = reference[writer]
        for key, moment in moments.items():
            assert torch.equal(moment, true_moments[key]), (name, writer, key)
            assert moment.any()
        for key, weight in later.items():
            assert (weight - true_later[key]).abs().max() <= 1e-3, (name, writer, key)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    strategy = tiny_strategy("none")
    train_steps(strategy, Cell(), range(1))
    strategy.save(tmp_path)
    (tmp_path / "strategy.json").write_text('{"strategy": "ddp"', encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        strategy.load(tmp_path)


def test_a_snapshot_writes_what_stood_when_it_was_taken(tmp_path: Path) -> None:
    strategy = tiny_strategy("none")
    train_steps(strategy, Cell(), range(2))
    before = strategy.state_dict()
    write = strategy.snapshot()
    assert write is not None
    train_steps(strategy, Cell(), range(2, 4))
    assert any(not torch.equal(before[key], value) for key, value in strategy.state_dict().items())
    write(tmp_path)
    other = tiny_strategy("none")
    other.load(tmp_path)
    for key, value in other.state_dict().items():
        assert torch.equal(before[key], value)
