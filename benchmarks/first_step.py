"""Builds the encoder of a recipe and compares its first step's loss and gradient in fp32 between devices.

    python benchmarks/first_step.py --initial DIR --json FILE [--device cuda] [options of training ...]

The encoder is saved in DIR, for runs to start from. Dropout is off. The loss is torch's on all devices, and on the
device also that of its compiled kernels. Exit status 1 where a loss or gradient differs from the CPU's by more than
rounding does, or the kernels are not there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from measure import environment, write_figures

from hybatch.losses import ContrastiveLoss
from hybatch.models import Encoder, build_encoder
from hybatch.ops.backend import ENVIRONMENT_VARIABLE, why_missing
from hybatch.training.config import RunConfig, load_run_config
from hybatch.training.run.assembly import build_sampler, open_corpora, tokenizer_texts
from hybatch.training.step.batches import BatchLoader, LocalBatch
from hybatch.training.step.caching import loss_of_embeddings
from hybatch.training.step.chunks import Cutting

LOSS_TOLERANCE = 1e-5
"""Relative, between two devices that add up in another order."""
GRADIENT_TOLERANCE = 1e-3
"""Of the whole gradient's norm."""
_NOTABLE = 1e-3
"""Parameters whose gradients are smaller than this share of the whole are not looked at one by one."""


def prepare(config: RunConfig, initial: Path) -> LocalBatch:
    """Save the encoder; return the run's first batch."""
    corpora = open_corpora(config, progress=False)
    sampler = build_sampler(config, corpora, progress=False)
    if not initial.exists():
        is_fresh = config.model.fresh is not None
        texts = tokenizer_texts(config.model, corpora, sampler.languages) if is_fresh else None
        build_encoder(config.model, seed=config.seed, texts=texts).save(initial)
    return BatchLoader(sampler=sampler, tokenize=Encoder.load(initial).tokenize, cutting=Cutting(chunk_size=64)).load(0)


def step(
    initial: Path, config: RunConfig, local: LocalBatch, device: torch.device, *, compiled: bool = False
) -> dict[str, Any]:
    """Loss and gradients, by name, of the saved encoder.

    Args:
        compiled: the loss is the device's kernels' instead of torch's.
    """
    encoder = Encoder.load(initial).to(device).eval()
    os.environ[ENVIRONMENT_VARIABLE] = device.type if compiled else "torch"
    loss = ContrastiveLoss(
        temperature=config.loss.temperature,
        symmetric=config.loss.symmetric,
        implementation="streaming" if compiled else "dense",
    )
    here = local.to(device)
    value = loss_of_embeddings(loss, here, torch.cat([encoder(chunk.features) for chunk in here.chunks]))
    value.backward()
    gradients = {name: p.grad.cpu().double() for name, p in encoder.named_parameters() if p.grad is not None}
    return {"loss": float(value.detach()), "gradients": gradients}


def compare(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """How far apart they are, and the parameter that is worst."""
    norm = sum(float(g.norm()) ** 2 for g in expected["gradients"].values()) ** 0.5
    gaps = {name: float((found["gradients"][name] - g).norm()) for name, g in expected["gradients"].items()}
    notable = {n: float(g.norm()) for n, g in expected["gradients"].items() if float(g.norm()) > _NOTABLE * norm}
    worst = max(notable, key=lambda name: gaps[name] / notable[name])
    return {
        "loss": found["loss"],
        "cpu_loss": expected["loss"],
        "loss_gap": abs(found["loss"] - expected["loss"]) / abs(expected["loss"]),
        "cpu_gradient_norm": norm,
        "gradient_gap": sum(gap**2 for gap in gaps.values()) ** 0.5 / norm,
        "worst_parameter": worst,
        "worst_parameter_gap": gaps[worst] / notable[worst],
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--initial", type=Path, required=True, help="where the encoder is saved, or is already")
    parser.add_argument("--json", type=Path, required=True, help="where to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    own, options = parser.parse_known_args(argv)
    config = load_run_config(options)
    local = prepare(config, own.initial)
    device = torch.device(own.device)
    expected = step(own.initial, config, local, torch.device("cpu"))
    figures: dict[str, Any] = {"environment": environment(device), "examples": len(local.groups_Q)}
    figures |= {"tokens": local.num_tokens, "torch": compare(step(own.initial, config, local, device), expected)}
    missing = why_missing(device.type, "contrastive", device)
    if missing is None:
        figures["compiled"] = compare(step(own.initial, config, local, device, compiled=True), expected)
    write_figures(own.json, figures, finished=True)
    for loss in ("torch", "compiled"):
        print(f"{loss}: {figures.get(loss, missing)}")
    return int(missing is not None or not all(map(is_close, (figures["torch"], figures["compiled"]))))


def is_close(found: dict[str, Any]) -> bool:
    return bool(found["loss_gap"] <= LOSS_TOLERANCE and found["gradient_gap"] <= GRADIENT_TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
