"""The launcher decides; training.strategy must agree; contradictions stop the run before it starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.training.strategy import PreparedEngine, check_strategy
from hybatch.training.strategy.choose import check_engine_options
from hybatch.training.strategy.deepspeed.zero import import_deepspeed


def _prepared(kind: str, processes: int = 2, stage: int = 2, **fsdp: str) -> PreparedEngine:
    zero: dict[str, Any] = {"zero_optimization": {"stage": stage}} if kind == "DEEPSPEED" else {}
    return PreparedEngine(kind, processes, zero, fsdp)


@pytest.mark.parametrize(
    ("name", "prepared", "found"),
    [
        ("auto", _prepared("NO", 1), "none"),
        ("none", _prepared("MULTI_CPU", 1), "none"),
        ("auto", _prepared("MULTI_GPU"), "ddp"),
        ("ddp", _prepared("MULTI_CPU"), "ddp"),
        ("auto", _prepared("DEEPSPEED", stage=1), "zero1"),
        ("zero3", _prepared("DEEPSPEED", 1, stage=3), "zero3"),
        ("auto", _prepared("FSDP"), "fsdp2"),
        ("fsdp2", _prepared("MULTI_CPU"), "fsdp2"),
    ],
)
def test_what_the_launcher_prepared_is_the_strategy(name: str, prepared: PreparedEngine, found: str) -> None:
    assert check_strategy(name, prepared) == found


@pytest.mark.parametrize(
    ("name", "prepared", "reason"),
    [
        ("zero4", _prepared("NO", 1), "choose one of"),
        ("zero2", _prepared("MULTI_CPU"), "the launcher prepared ddp"),
        ("zero2", _prepared("DEEPSPEED", stage=3), "the launcher prepared zero3"),
        ("ddp", _prepared("DEEPSPEED"), "the launcher prepared zero2"),
        ("fsdp2", _prepared("MULTI_GPU"), "fsdp.yaml"),
        ("none", _prepared("MULTI_CPU"), "one process"),
        ("ddp", _prepared("NO", 1), "several processes"),
        ("fsdp2", _prepared("NO", 1), "several processes"),
        ("auto", _prepared("FSDP", 1), "several processes"),
        ("auto", _prepared("MEGATRON_LM"), "MEGATRON_LM"),
        ("auto", _prepared("FSDP", FSDP_OFFLOAD_PARAMS="true"), "offload needs DeepSpeed"),
        ("auto", _prepared("FSDP", FSDP_CPU_RAM_EFFICIENT_LOADING="true"), "every process reads"),
        ("auto", _prepared("FSDP", FSDP_ACTIVATION_CHECKPOINTING="true"), "gradient_checkpointing"),
        ("auto", _prepared("FSDP", FSDP_VERSION="1"), "fsdp_version"),
    ],
)
def test_a_combination_that_cannot_exist_is_refused_with_its_reason(
    name: str, prepared: PreparedEngine, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        check_strategy(name, prepared)


def test_a_missing_deepspeed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"hybatch\[deepspeed\]"):
        import_deepspeed()
    with pytest.raises(UserError, match=r"hybatch\[deepspeed\]"):
        check_engine_options(_prepared("DEEPSPEED"), batch_size=8, max_grad_norm=None)
    assert check_engine_options(_prepared("MULTI_CPU"), batch_size=8, max_grad_norm=None) == {}
