"""Of a DeepSpeed file only what is known to leave reduction, precision and data alone passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.training.strategy import PreparedEngine
from hybatch.training.strategy.choose import check_engine_options, check_strategy
from hybatch.training.strategy.deepspeed.options import ALLOWED, check_file, engine_options

ROOT = Path(__file__).resolve().parents[4]


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


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "deepspeed").glob("*.json")), ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_passes_whole(path: Path) -> None:
    check_file(str(path))
    given = json.loads(path.read_text(encoding="utf-8"))
    options = engine_options(given, batch_size=32, processes=4, max_grad_norm=1.0)
    assert options["zero_optimization"] == given["zero_optimization"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("bfloat16", {"enabled": True}, "mixed_precision"),
        ("BF16", {"enabled": True}, "mixed_precision"),
        ("BFloat-16", {"enabled": True}, "mixed_precision"),
        ("Fp16", {}, "mixed_precision"),
        ("fp16", True, "mixed_precision"),
        ("torch_autocast", {"enabled": True, "dtype": "bfloat16"}, "mixed_precision"),
        ("amp", {"enabled": True, "opt_level": "O1"}, "mixed_precision"),
        ("data_types", {"grad_accum_dtype": "bf16"}, "float32"),
        ("communication_data_type", "fp16", "float32"),
        ("seq_parallel_communication_data_type", "bf16", "float32"),
        ("gradient_allreduce_op", "sum", "averaged"),
        ("prescale_gradients", True, "averaged"),
        ("gradient_predivide_factor", 2.0, "averaged"),
        ("sparse_gradients", True, "averaged"),
        ("zero_optimization.zero_quantized_weights", True, "float32"),
        ("zero_optimization.zero_quantized_gradients", True, "float32"),
        ("zero_optimization.zero_quantized_nontrainable_weights", True, "float32"),
        ("zero_optimization.zero_hpz_partition_size", 8, "all processes"),
        ("zero_optimization.zenflow", {"topk_ratio": 0.05}, "earlier steps"),
        ("zero_optimization.round_robin_gradients", True, "checkpoints"),
        ("zero_optimization.cpu_offload", True, "offload_optimizer"),
        ("zero_optimization.offload_optimizer.ratio", 0.3, "as a whole"),
        ("data_efficiency", {"enabled": True}, "sampler"),
        ("curriculum_learning", {"enabled": True, "curriculum_type": "seqlen"}, "sampler"),
        ("compression_training", {"weight_quantization": {}}, "weights that are trained"),
        ("tensor_parallel", {"autotp_size": 2}, "whole layers"),
        ("compile", {"deepcompile": True}, "training.compile"),
        ("activation_checkpointing", {"partition_activations": True}, "gradient_checkpointing"),
        ("scheduler", {}, "training.schedule"),
        ("a_key_of_tomorrow", 1, "not among the keys"),
        ("zero_optimization.a_key_of_tomorrow", True, "not among the keys"),
        ("zero_optimization.Overlap_Comm", True, r"write zero_optimization\.overlap_comm if that is meant"),
        ("zero_optimization.max_live_parameters", 1, r"write zero_optimization\.stage3_max_live_parameters"),
    ],
)
def test_what_is_not_known_to_be_exact_is_refused_by_its_name_and_with_the_reason(
    key: str, value: Any, reason: str
) -> None:
    given: dict[str, Any] = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    *blocks, last = key.split(".")
    block = given
    for name in blocks:
        block = block[name]
    block[last] = value
    with pytest.raises(UserError, match=rf"has {key}: .*{reason}"):
        engine_options(given, batch_size=32, processes=4, max_grad_norm=1.0)


def test_defaults_that_are_spelt_out_and_what_accelerate_fills_in_are_no_contradiction() -> None:
    zero = {
        "stage": 2,
        "offload_optimizer": {"device": "none", "nvme_path": None, "pin_memory": True},
        "offload_param": {"device": "none", "nvme_path": "none"},
        "stage3_gather_16bit_weights_on_model_save": False,
        "reduce_bucket_size": "auto",
        "sub_group_size": 1e9,
        "zero_quantized_weights": False,
        "zero_hpz_partition_size": 1,
        "round_robin_gradients": False,
    }
    options = _options(
        zero_optimization=zero,
        steps_per_print=float("inf"),
        wall_clock_breakdown=False,
        fp16={"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16},
        bfloat16={"enabled": False},
        amp={"enabled": False},
        prescale_gradients=False,
        sparse_gradients=False,
        gradient_predivide_factor=1,
        gradient_allreduce_op="mean",
        communication_data_type="fp32",
        zero_allow_untested_optimizer=True,
    )
    assert options["zero_optimization"] == {"stage": 2, "stage3_gather_16bit_weights_on_model_save": False}
    assert options.keys() == {
        *("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"),
        *("zero_optimization", "steps_per_print", "wall_clock_breakdown"),
        *("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer"),
    }


@pytest.mark.parametrize(
    ("zero", "word"),
    [
        ({"stage": 2, "reduce_bucket_size": "many"}, r"reduce_bucket_size 'many': .*integer"),
        ({"stage": 3, "stage3_max_live_parameters": -1}, "stage3_max_live_parameters -1: "),
        ({"stage": 2, "overlap_comm": "perhaps"}, "overlap_comm 'perhaps': .*bool"),
        ({"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": 7}}, r"offload_optimizer\.pin_memory 7"),
        ({"stage": True}, "stage True"),
        ({"stage": "2"}, "stage '2'"),
        (True, "write an object"),
        ({"stage": 2, "offload_optimizer": True}, "write an object"),
    ],
)
def test_values_that_deepspeed_refuses_are_named(zero: Any, word: str) -> None:
    pytest.importorskip("deepspeed")
    prepared = PreparedEngine("DEEPSPEED", 2, {"zero_optimization": zero}, {})
    with pytest.raises(UserError, match=word):
        check_engine_options(prepared, batch_size=8, max_grad_norm=None)


def test_a_block_that_is_no_object_is_refused_when_the_strategy_is_settled() -> None:
    with pytest.raises(UserError, match="write an object"):
        check_strategy("auto", PreparedEngine("DEEPSPEED", 2, {"zero_optimization": True}, {}))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", r"zero\.json: is not JSON"),
        ("[]", r"zero\.json: has no"),
        ("{}", r"zero\.json: has no"),
        (None, r"zero\.json: cannot be read"),
        ('{"zero_optimization": true}', "write an object"),
        ('{"zero_optimization": {"stage": "auto", "offload_param": "cpu"}}', "write an object"),
    ],
)
def test_a_file_that_holds_no_configuration_is_named(content: str | None, word: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "zero.json").write_text(content)
    with pytest.raises(UserError, match=word):
        check_file(str(tmp_path / "zero.json"))


def test_the_documentation_lists_the_keys_that_pass() -> None:
    text = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `") and line.count("|") == 3]
    listed = {row.split("`")[1]: row.split("|")[2].strip() for row in rows}
    assert {key: listed.get(key) for key in ALLOWED} == dict(ALLOWED)
    assert not [key for key in listed if key.startswith("zero_optimization") and key not in ALLOWED]
