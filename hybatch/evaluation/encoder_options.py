"""Options that every command has which runs an encoder: how much at once, and where."""

from __future__ import annotations

import argparse

import torch

from hybatch.errors import UserError
from hybatch.options import number_of


def add_encoder_options(
    parser: argparse.ArgumentParser, *, at_once: str = "texts encoded at once by a process"
) -> None:
    """Add --batch-size and --device.

    Args:
        at_once: what --batch-size counts.
    """
    parser.add_argument(
        "--batch-size",
        type=number_of("--batch-size", int, ge=1, le=1_000_000),
        default=128,
        help=f"{at_once} (default 128)",
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )


def check_device(arguments: argparse.Namespace) -> None:
    """Check --device before long work.

    Raises:
        UserError: a GPU is asked for, and torch sees none.
    """
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave the option out or say --device cpu")


def device_of(arguments: argparse.Namespace) -> str:
    """What --device comes to on this machine: cpu or cuda."""
    return "cpu" if arguments.device == "cpu" or not torch.cuda.is_available() else "cuda"
