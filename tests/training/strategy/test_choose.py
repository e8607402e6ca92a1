"""The launcher decides; training.strategy must agree; contradictions stop the run before it starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.training.strategy import PreparedEngine, check_strategy
from hybatch.training.strategy.choose import check_engine_options
from hybatch.training.strategy.deepspeed import import_deepspeed
from hybatch.training.strategy.deepspeed_options import engine_options


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


def _options(max_grad_norm: float | None = 1.0, **given: Any) -> dict[str, Any]:
    given.setdefault("zero_optimization", {"stage": 2, "reduce_bucket_size": "auto"})
    return engine_options(given, batch_size=32, processes=4, max_grad_norm=max_grad_norm)


def test_deepspeed_takes_clipping_accumulation_and_batch_size_from_hybatch() -> None:
    options = _options(2.5, gradient_clipping="auto", gradient_accumulation_steps="auto", steps_per_print=10)
    assert options["gradient_clipping"] == 2.5
    assert options["gradient_accumulation_steps"] == 1
    assert (options["train_batch_size"], options["train_micro_batch_size_per_gpu"]) == (32, 8)
    assert options["zero_optimization"] == {"stage": 2}
    # Left out, it would be 1.0 in some versions: nothing must clip where nothing shall.
    assert _options(None)["gradient_clipping"] == 0.0


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"gradient_clipping": 0.5}, "training.max_grad_norm"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps"),
        ({"train_batch_size": 64}, "sampling.batch_size"),
        ({"train_micro_batch_size_per_gpu": 1}, "sampling.batch_size"),
        ({"optimizer": {"type": "Adam"}}, "optimizer"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler"),
        ({"fp16": {"enabled": True}}, "mixed_precision"),
        ({"bf16": {"enabled": True}}, "mixed_precision"),
        ({"communication_data_type": "bf16"}, "float32"),
        ({"zero_optimization": {"stage": 0}}, "stage 0"),
        ({"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}, "stage 2 or 3"),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, "stage 3"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "none or cpu"),
    ],
)
def test_a_deepspeed_file_that_contradicts_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        _options(**given)


def test_disabled_blocks_and_equal_values_are_no_contradiction() -> None:
    options = _options(gradient_clipping=1.0, train_batch_size=32, fp16={"enabled": False}, bf16={"enabled": "auto"})
    assert "fp16" not in options
    assert "bf16" not in options


def test_no_offload_means_none() -> None:
    zero = {"stage": 3, "offload_param": {"device": "none"}, "offload_optimizer": {"device": "cpu"}}
    assert _options(zero_optimization=zero)["zero_optimization"] == {"stage": 3, "offload_optimizer": {"device": "cpu"}}


def test_a_missing_deepspeed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(UserError, match=r"hybatch\[deepspeed\]"):
        import_deepspeed()
    with pytest.raises(UserError, match=r"hybatch\[deepspeed\]"):
        check_engine_options(_prepared("DEEPSPEED"), batch_size=8, max_grad_norm=None)
    assert check_engine_options(_prepared("MULTI_CPU"), batch_size=8, max_grad_norm=None) == {}
