"""`hybatch plan`: expected memory per strategy and time per step of a configuration; nothing is fetched but sizes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.table import Table

from hybatch.atomic import write_text
from hybatch.errors import UserError
from hybatch.models.config import check_config
from hybatch.options import number_of
from hybatch.paths import path_of
from hybatch.sampling import KINDS
from hybatch.sampling.plan import planned_kinds
from hybatch.terminal import table_console
from hybatch.training.config import RunConfig, TrainingConfig, instantiate, run_parser
from hybatch.training.plan.activations import profile_activations
from hybatch.training.plan.machine import memory_bytes, product_flops
from hybatch.training.plan.memory import (
    Memory,
    ParameterCounts,
    StrategyName,
    Workload,
    largest_chunk_size,
    plan_memory,
    strategies,
)
from hybatch.training.plan.sizes import EncoderSizes, encoder_sizes
from hybatch.training.run.precision import settle_precision

SUMMARY = "expected memory per strategy and time per step, from the configuration alone"
_GB = 1e9
_DEVICES = {"cuda": ("GPU", "GPUs"), "cpu": ("CPU process", "CPU processes")}
"""What --device may be, and what one and several of them are called."""
_CPU_SHARE = 0.7
"""Of the rate of a large product, what a step of an encoder reaches on a CPU, about."""
_PEAK_BF16 = 989
"""TFLOP/s of an H100 or H200 in dense bf16."""
_ROWS = ("weights", "gradients", "optimizer", "buffers", "activations", "caches", "total", "host")


@dataclass(frozen=True, kw_only=True)
class StrategyPlan:
    """One column of the table.

    Attributes:
        fits: with the configuration's chunk size.
        chunk_size: the largest power of two that fits; None where none does.
    """

    memory: Memory
    fits: bool
    chunk_size: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `hybatch plan` prints.

    Attributes:
        step_flops: of one device.
        step_seconds: at the assumed share of the assumed peak, communication left out.
    """

    sizes: EncoderSizes
    work: Workload
    strategies: dict[StrategyName, StrategyPlan]
    step_flops: int
    step_seconds: float


def make_plan(config: RunConfig, *, devices: int, capacity: float, peak_flops: float, utilisation: float) -> Plan:
    """Plan a run in which every text has its role's maximum length.

    Args:
        config: of which training.mixed_precision is settled, no longer auto.
        capacity: bytes of one device.
        peak_flops: operations per second of one device.
        utilisation: the share of them that is reached.

    Raises:
        UserError: the batch does not divide, or the model's sizes cannot be found out.
    """
    _check(config, devices)
    model, sizes = config.model, encoder_sizes(config.model)
    config.loss.check_width(sizes.width)
    query_length = _query_length(config)
    queries, passages = (
        profile_activations(
            sizes.config,
            tokens=tokens,
            pooling=sizes.pooling,
            bf16=config.training.is_bf16,
            attn_implementation=model.attn_implementation,
            lora=model.lora,
            lora_layers=sizes.lora_layers,
        )
        for tokens in (query_length, model.passage_max_length)
    )
    work = Workload(
        batch_size=config.sampling.batch_size,
        chunk_size=_chunk_size(config),
        negatives=config.loss.hard_negatives,
        ring=config.loss.passes_blocks,
        dense=config.loss.holds_logits,
        checkpointing=model.gradient_checkpointing,
        width=sizes.width,
        translations=config.loss.aligns,
        positives=config.loss.most_positives or 1,
        leading=config.loss.trained_widths[1:],
    )
    counts = ParameterCounts(
        all=sizes.parameters,
        learning=sizes.learning,
        layer=sizes.layer,
        outside=sizes.outside,
        learning_layer=sizes.learning_layer,
        learning_outside=sizes.learning_outside,
    )
    common: dict[str, Any] = {
        "devices": devices, "counts": counts, "work": work, "queries": queries, "passages": passages
    }  # fmt: skip
    planned = {}
    for name in strategies(devices):
        memory = plan_memory(name, **common)
        chunk_size = largest_chunk_size(name, capacity=capacity, **common)
        planned[name] = StrategyPlan(memory=memory, fits=memory.fits(capacity), chunk_size=chunk_size)
    rows = work.batch_size // devices
    passages_of_device = rows * work.passages
    # The arithmetic of a text does not depend on its chunk; only the last chunk, which is encoded once, counts apart.
    last = (passages_of_device - 1) % (work.chunk_size or passages_of_device) + 1
    chunks = [
        [(rows * (1 + work.translations), query_length), (passages_of_device - last, model.passage_max_length)],
        [(last, model.passage_max_length)],
    ]
    flops = sizes.flops.step(chunks, cached=work.chunk_size is not None, recomputed=work.checkpointing)
    return Plan(
        sizes=sizes,
        work=work,
        strategies=planned,
        step_flops=flops,
        step_seconds=flops / (peak_flops * utilisation),
    )


def _query_length(config: RunConfig) -> int:
    """Tokens of a query at most, in the batches of any kind that the run may draw."""
    texts = {KINDS[kind].query_text for kind in planned_kinds(config.sampling, config.training.steps)}
    return max(config.model.max_length("query" if text == "question" else "passage") for text in texts)


def _chunk_size(config: RunConfig) -> int | None:
    """Passages of their maximum length that are encoded at once at most."""
    training = config.training
    by_tokens = training.chunk_tokens and max(1, training.chunk_tokens // config.model.passage_max_length)
    return min((size for size in (training.chunk_size, by_tokens) if size is not None), default=None)


def _check(config: RunConfig, devices: int) -> None:
    check_config(config.model)
    batch_size, chunk_size = config.sampling.batch_size, config.training.chunk_size
    if batch_size % devices:
        raise UserError(
            f"sampling.batch_size is {batch_size}, which {devices} devices do not divide: choose a multiple"
        )
    if chunk_size is not None and chunk_size > batch_size // devices:
        raise UserError(
            f"training.chunk_size is {chunk_size}, more than the {batch_size // devices} examples of each of "
            f"{devices} devices: lower it, or leave it out"
        )


def main(argv: Sequence[str]) -> int:
    """Print the plan of a configuration; return 0.

    Raises:
        UserError: as `make_plan`, an option is out of its range, or --json cannot be written.
    """
    parser = run_parser("hybatch plan", SUMMARY, argv)
    _add_device_options(parser, _device(argv))
    parser.add_argument("--json", type=path_of("--json"), default=None, help="also write the plan to this file")
    config, options = instantiate(parser, argv)
    of_precision = _settle_precision(config.training, options.device, options.peak_tflops)
    _settle_machine(config.training, options)
    plan = make_plan(
        config,
        devices=options.gpus,
        capacity=options.gpu_memory * _GB,
        peak_flops=options.peak_tflops * 1e12,
        utilisation=options.mfu,
    )
    console = table_console(width_of_files=140)
    console.print(_table(plan, options))
    for line in [*_remarks(config, plan, options), *of_precision]:
        console.print(line, highlight=False)
    if options.json is not None:
        write_text(options.json, json.dumps(_as_json(config, plan, options), indent=1))
    return 0


def _settle_precision(training: TrainingConfig, device: str, peak: float | None) -> list[str]:
    """Put what `training.mixed_precision: auto` comes to on the planned devices in its place; lines for the user.

    Runs on CPUs are planned on a machine like theirs. Of GPUs a plan knows memory and speed alone.
    """
    if device == "cpu":
        line = settle_precision(training, torch.device("cpu"))
        return [] if line is None else [f"{line}."]
    if training.mixed_precision == "no" and peak == _PEAK_BF16:
        return [
            f"training.mixed_precision is no, and {peak} TFLOP/s a rate of bf16: set training.mixed_precision to bf16, "
            "or --peak-tflops to the rate in float32, 67 of H100 and H200."
        ]
    if training.mixed_precision != "auto":
        return []
    training.mixed_precision = "bf16"
    return ["training.mixed_precision: auto is planned as bf16, on GPUs that have it; on others it comes to no."]


def _device(argv: Sequence[str]) -> str:
    """What --device says, which decides on other options' defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", default="cuda")
    return str(parser.parse_known_args(argv)[0].device)


def _add_device_options(parser: ArgumentParser, device: str) -> None:
    memory, peak, share = (80, _PEAK_BF16, 0.4) if device == "cuda" else (None, None, _CPU_SHARE)
    options: tuple[tuple[str, type[int] | type[float], float | None, dict[str, float], str], ...] = (
        ("--gpus", int, 1, {"ge": 1, "le": 1_000_000}, "devices, one process each"),
        ("--gpu-memory", float, memory, {"gt": 0, "le": 1_000_000}, "GB (10^9 bytes) of one device"),
        ("--peak-tflops", float, peak, {"gt": 0, "le": 1e9}, "of one device: H100 and H200 dense bf16 989, float32 67"),
        ("--mfu", float, share, {"gt": 0, "le": 1}, "share of the peak that is assumed to be reached"),
    )
    for name, kind, default, ends, text in options:
        parser.add_argument(name, type=number_of(name, kind, **ends), default=default, help=text)
    parser.add_argument(
        "--device",
        choices=list(_DEVICES),
        default="cuda",
        help="cuda: GPUs; cpu: --gpus processes that share a machine like this one, which says what "
        "training.mixed_precision: auto is; by default they have its memory, and the rate of its products for a peak",
    )


def _settle_machine(training: TrainingConfig, options: Any) -> None:
    """Of processes on a CPU: their shares of this machine in the place of what was not given."""
    if options.gpu_memory is None:
        options.gpu_memory = memory_bytes() / options.gpus / _GB
    if options.peak_tflops is None:
        rate = product_flops(torch.bfloat16 if training.is_bf16 else torch.float32)
        options.peak_tflops = rate / options.gpus / 1e12


def _table(plan: Plan, options: Any) -> Table:
    one, several = _DEVICES[options.device]
    table = Table(
        title=f"Expected memory of one of {options.gpus} {several if options.gpus > 1 else one}, GB (10^9 bytes)"
    )
    table.add_column("")
    for name in plan.strategies:
        table.add_column(name, justify="right")
    for row in _ROWS:
        label = "host, per process" if row == "host" else row
        cells = [column.memory.as_dict()[row] / _GB for column in plan.strategies.values()]
        table.add_row(label, *(f"{cell:.2f}" for cell in cells), style="bold" if row == "total" else None)
    columns = plan.strategies.values()
    table.add_row(f"fits {options.gpu_memory:.4g} GB", *("yes" if column.fits else "no" for column in columns))
    table.add_row("largest chunk_size", *(str(column.chunk_size or "none fits") for column in columns))
    return table


def _remarks(config: RunConfig, plan: Plan, options: Any) -> list[str]:
    model, work, sizes, (device, _) = config.model, plan.work, plan.sizes, _DEVICES[options.device]
    chunks = "all at once" if work.chunk_size is None else f"{work.chunk_size} texts at a time"
    return [
        f"Model: {sizes.parameters:,} parameters, {sizes.learning:,} of them learning; embeddings of {sizes.width}.",
        f"Batch: {work.batch_size:,} examples, {work.batch_size // options.gpus:,} on each {device}, encoded {chunks}; "
        f"every text at its maximum length ({_query_length(config)} and {model.passage_max_length} tokens), "
        f"mixed precision {config.training.mixed_precision}, gradient checkpointing "
        f"{'on' if work.checkpointing else 'off'}.",
        f"Time: {plan.step_flops / 1e12:,.1f} TFLOP a step and {device}, {_seconds(plan.step_seconds)} at "
        f"{options.mfu:.0%} of {options.peak_tflops:.3g} TFLOP/s, {_rate(plan)}; communication, offloading and the "
        "optimizer come on top.",
        *_positives(config, work),
        "fits: 10% of the memory is left for what is not modelled (CUDA, its libraries, fragments). Text shorter than "
        "the maximum takes less. On a CPU the process itself adds about 1 GB (Python, libraries, the tokenizer).",
    ]


def _positives(config: RunConfig, work: Workload) -> list[str]:
    """How many positives of an example are reckoned with, where it may have several."""
    if config.loss.most_positives == 1:
        return []
    if config.loss.most_positives is None:
        return ["Positives: one of each example; where corpora list several, set loss.max_positives to count with it."]
    return [f"Positives: {work.positives} of each example, the most that loss.max_positives allows."]


def _rate(plan: Plan) -> str:
    if not plan.step_flops:
        return "as nothing is multiplied: what time a step takes goes into reading embeddings and into the loss"
    rate = plan.work.batch_size / plan.step_seconds
    return f"{rate:,.0f} examples/s" if rate >= 10 else f"{rate:.2g} examples/s"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds:.2g} s"


def _as_json(config: RunConfig, plan: Plan, options: Any) -> dict[str, Any]:
    return {
        "assumptions": {
            "device": options.device,
            "mixed_precision": config.training.mixed_precision,
            "gpus": options.gpus,
            "gpu_memory_gb": options.gpu_memory,
            "peak_tflops": options.peak_tflops,
            "mfu": options.mfu,
        },
        "model": {
            "parameters": plan.sizes.parameters,
            "learning": plan.sizes.learning,
            "embedding_size": plan.sizes.width,
        },
        "work": asdict(plan.work),
        "strategies": {
            name: {"bytes": column.memory.as_dict(), "fits": column.fits, "largest_chunk_size": column.chunk_size}
            for name, column in plan.strategies.items()
        },
        "step_flops_per_gpu": plan.step_flops,
        "step_seconds": plan.step_seconds,
    }
