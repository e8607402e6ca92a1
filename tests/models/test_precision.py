"""Which devices gain by bf16, and what unlike processes make of it together."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hybatch.evaluation.encoding import precision as of_evaluation
from hybatch.models.precision import why_not_all_bf16, why_not_bf16
from hybatch.training.config import TrainingConfig
from hybatch.training.run import precision as of_training
from tests.faked_processor import fake_processor
from tests.processes import run_processes

CPU = torch.device("cpu")
NEITHER = "this processor has neither AVX512-BF16 nor AMX"


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [(["avx512_bf16"], None), (["amx_tile"], None), (["avx512_f", "avx512_fp16", "avx2"], NEITHER), ([], NEITHER)],
)
def test_a_processor_gains_by_bf16_if_it_has_instructions_for_it(
    instructions: list[str], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_processor(monkeypatch, *instructions)
    assert why_not_bf16(CPU) == why_not_all_bf16(CPU) == reason


@pytest.mark.parametrize(
    ("major", "reason"), [(7, "Old GPU has no instructions for bf16"), (8, None), (9, None), (12, None)]
)
def test_a_gpu_gains_by_bf16_if_it_does_not_emulate_it(
    major: int, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked: dict[str, Any] = {
        "device": lambda device: contextlib.nullcontext(),
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_properties": lambda device: SimpleNamespace(major=major),
        "get_device_name": lambda device: "Old GPU",
    }
    for name, value in faked.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert why_not_bf16(torch.device("cuda", 0)) == reason


def test_devices_that_are_not_on_the_list_do_not_gain() -> None:
    assert why_not_bf16(torch.device("mps")) == "devices of type mps are not known to gain by bf16"


def _what_it_comes_to(instructions_of_ranks: list[list[str]]) -> list[object]:
    with pytest.MonkeyPatch.context() as patch:
        fake_processor(patch, *instructions_of_ranks[torch.distributed.get_rank()])
        auto, named = (TrainingConfig(mixed_precision=one) for one in ("auto", "bf16"))
        lines = [of_training.settle_precision(one, CPU) for one in (auto, named)]
        evaluated = of_evaluation.settle_precision("auto", CPU)
        return [why_not_all_bf16(CPU), auto.mixed_precision, named.mixed_precision, *lines, evaluated]


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [([["avx512_bf16"], []], f"process 1: {NEITHER}"), ([["avx512_bf16"], ["amx_tile"]], None)],
)
def test_processes_on_unlike_processors_come_to_the_least_that_all_have(
    instructions: list[list[str]], reason: str | None
) -> None:
    first, second = run_processes(_what_it_comes_to, 2, instructions)
    assert first == second
    why, auto, named, said_of_auto, said_of_named, evaluated = first
    assert why == reason
    assert (auto, evaluated) == (("bf16", "bf16") if reason is None else ("no", "float32"))
    assert named == "bf16"
    assert ("process 1" in said_of_auto) == (reason is not None)
    assert (said_of_named is None) == (reason is None)
