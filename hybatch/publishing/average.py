"""`hybatch average`: one encoder of several of the same kind, the mean of their weights."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.models import Encoder
from hybatch.models.average import move_towards_, why_apart
from hybatch.models.card import CARD, Origin, base_model, versions_used
from hybatch.models.card.base import front_matter
from hybatch.models.folder.debiased import RECORD
from hybatch.models.folder.finding import check_holds_model, finished_encoder, locate
from hybatch.models.folder.layout import read_layout
from hybatch.options import number_of
from hybatch.paths import check_new_folder, folder_of

SUMMARY = "write one encoder whose weights are the mean of several encoders' (model soups)"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch average` and return its exit code.

    Raises:
        UserError: a folder holds no encoder, or one that goes with none or not with the others; the output is there
            already or cannot be written. Nothing is left behind.
    """
    arguments = _parser().parse_args(argv)
    shares = _shares(arguments.weights, len(arguments.models))
    check_new_folder(arguments.output, "--output")
    folders = [finished_encoder(locate(model), "MODEL") for model in arguments.models]
    for folder in folders:
        _check(folder)
    mean = _mean(folders, shares)
    try:
        mean.save(arguments.output, origin=_origin(folders, arguments.models, shares))
    except OSError as error:
        raise UserError(f"--output {arguments.output}: cannot be written ({error.strerror or error})") from error
    print(f"wrote {arguments.output}: the mean of {len(folders)} encoders")
    return 0


def _shares(weights: Sequence[float] | None, models: int) -> list[float]:
    """Of each model in the mean; they sum to 1."""
    if models < 2:
        raise UserError(f"MODEL: give two or more encoders; here {models}")
    if weights is None:
        return [1 / models] * models
    if len(weights) != models:
        raise UserError(f"--weights: give one for each of the {models} models; here {len(weights)}")
    return [weight / sum(weights) for weight in weights]


def _check(folder: Path) -> None:
    """Refuse, before any weights are read, what has no mean.

    Raises:
        UserError: the folder holds no model that can be trained further, or a debiased one.
    """
    if (folder / RECORD).is_file():
        raise UserError(
            f"{folder}: is debiased ({RECORD}), which holds for its own weights alone; average the encoders that "
            "debiased ones were made of, and debias the mean"
        )
    check_holds_model(read_layout(folder).backbone_folder)


def _mean(folders: Sequence[Path], shares: Sequence[float]) -> Encoder:
    """Each encoder moves the mean of those before it by its share of them and itself; two are in memory at a time."""
    mean, taken = Encoder.load(folders[0]), shares[0]
    for folder, share in zip(folders[1:], shares[1:], strict=True):
        other = Encoder.load(folder)
        if (difference := why_apart(mean, other)) is not None:
            raise UserError(f"{folders[0]} and {folder}: the encoders differ in {difference}: they have no mean")
        if mean.dimensions != other.dimensions:
            mean.dimensions = ()
        taken += share
        move_towards_(mean, other, share / taken)
    return mean


def _origin(folders: Sequence[Path], models: Sequence[str], shares: Sequence[float]) -> Origin:
    cards = [front_matter(folder / CARD) for folder in folders]
    bases = [base_model(str(folder)) for folder in folders]
    hub_id = bases[0].hub_id
    is_common = hub_id is not None and all(base.hub_id == hub_id for base in bases)
    return Origin(
        title=f"Mean of {len(folders)} encoders",
        made="The weights are the mean of those of several encoders of one start (`hybatch average`).",
        base=replace(bases[0], name=str(hub_id)) if is_common else None,
        languages=_joined(card.get("language") for card in cards),
        datasets=_joined(card.get("datasets") for card in cards),
        recipe=[
            *((f"share of {_name(model)}", f"{share:.4g}") for model, share in zip(models, shares, strict=True)),
            ("made with", versions_used()),
        ],
    )


def _name(model: str) -> str:
    """The last part of a path, of an encoder of a run with that of the run."""
    path = Path(os.path.abspath(model))
    return f"{path.parent.name}/{path.name}" if path.name in ("best", "final") else path.name


def _joined(lists: Iterable[Any]) -> list[str]:
    """All that is in any of them, in alphabetical order; what is no list counts as one entry."""
    listed = (one if isinstance(one, list) else [one] for one in lists if one)
    return sorted({str(entry) for entries in listed for entry in entries})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch average", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="two or more encoders trained from one start, or that start: runs' folders, saved encoders, hub ids; the "
        "first one's lengths and further prompts are the mean's",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=number_of("--weights", float, gt=0, le=1e6),
        metavar="WEIGHT",
        help="of each model, in their order, whatever they sum to; by default all alike",
    )
    parser.add_argument("--output", required=True, type=folder_of("--output"), metavar="DIR", help="a new folder")
    return parser
