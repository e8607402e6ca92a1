"""A sweep as a text file: one run a line, checked in whole before any of it is trained.

    python study/grid.py count GRID         the number of runs, for sbatch --array=1-N
    python study/grid.py names GRID         their names, one a line
    python study/grid.py options GRID I     the options that run I (from 1) adds to the recipe, one a line

A line is `SAMPLER BACKBONE SEED [OVERLAY ...]`:

SAMPLER   a file of configs/samplers without its ending, or the path of a YAML file laid over the recipe
BACKBONE  a hub id or a folder (model.backbone), the path of a YAML file laid over the recipe, or - for the recipe's own
SEED      a whole number from 0
OVERLAY   the path of a YAML file laid over all these, in the order of the line
Empty lines and everything after a # that starts a word are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hybatch.errors import UserError

SAMPLERS = Path(__file__).resolve().parent.parent / "configs" / "samplers"


@dataclass(frozen=True)
class GridRun:
    """One line of a grid.

    Attributes:
        sampler: YAML file with the sampling.
        backbone: hub id, folder or YAML file; None: the recipe's own.
        seed: of batches, fresh weights and dropout.
        overlays: further YAML files, each laid over those before.
    """

    sampler: Path
    backbone: str | None
    seed: int
    overlays: tuple[Path, ...] = ()

    @property
    def start(self) -> str:
        """What the run starts from, as its name calls it: a YAML file by its stem."""
        if self.backbone is None:
            return "recipe"
        is_file = self.backbone.endswith(".yaml")
        return _as_name(Path(self.backbone).stem if is_file else self.backbone.strip("./"))

    @property
    def name(self) -> str:
        """A folder name that tells the runs of a grid apart."""
        overlays = (_as_name(overlay.stem) for overlay in self.overlays)
        return "--".join([_as_name(self.sampler.stem), self.start, *overlays, f"seed{self.seed}"])

    @property
    def options(self) -> list[str]:
        """What the run adds to the command line of its recipe."""
        options = ["--config", str(self.sampler)]
        if self.backbone is not None:
            options += ["--config" if self.backbone.endswith(".yaml") else "--model.backbone", self.backbone]
        for overlay in self.overlays:
            options += ["--config", str(overlay)]
        return [*options, "--seed", str(self.seed)]


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def read_grid(path: Path) -> list[GridRun]:
    """Read and check all lines of a grid.

    Raises:
        UserError: the file cannot be read or names no run, or lines do not parse or stand for one run twice; every
            such line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"grid {path} cannot be read: {error}") from error
    runs: dict[str, GridRun] = {}
    problems = []
    for number, line in enumerate(lines, start=1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        try:
            run = _parse(words)
            if run.name in runs:
                raise UserError(f"the run {run.name} stands here a second time")
            runs[run.name] = run
        except UserError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise UserError("\n".join(problems))
    if not runs:
        raise UserError(f"grid {path} names no run: write lines of SAMPLER BACKBONE SEED [OVERLAY ...]")
    return list(runs.values())


def _parse(words: Sequence[str]) -> GridRun:
    if len(words) < 3:
        raise UserError(f"expected SAMPLER BACKBONE SEED [OVERLAY ...], found {len(words)} words: {' '.join(words)}")
    name, backbone, seed, *overlays = words
    sampler = Path(name) if name.endswith(".yaml") else SAMPLERS / f"{name}.yaml"
    if not sampler.is_file():
        known = ", ".join(sorted(file.stem for file in SAMPLERS.glob("*.yaml")))
        raise UserError(f"there is no sampler {name!r} ({sampler} is no file); name a YAML file or one of {known}")
    if backbone.endswith(".yaml") and not Path(backbone).is_file():
        raise UserError(f"the backbone's file {backbone} does not exist")
    if backbone.startswith(("/", "./", "../")) and not Path(backbone).exists():
        raise UserError(f"the backbone's folder {backbone} does not exist")
    if not re.fullmatch(r"[0-9]+", seed):
        raise UserError(f"the seed {seed!r} is no whole number from 0")
    for overlay in overlays:
        if not overlay.endswith(".yaml") or not Path(overlay).is_file():
            raise UserError(f"the overlay {overlay} is no YAML file: after the seed stand paths that end in .yaml")
    return GridRun(sampler, None if backbone == "-" else backbone, int(seed), tuple(map(Path, overlays)))


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was asked; 2 where the grid or the index is wrong."""
    parser = argparse.ArgumentParser(description="Check a grid of runs and print what a batch script needs of it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("count", "names", "options"):
        command = commands.add_parser(name)
        command.add_argument("grid", type=Path)
        if name == "options":
            command.add_argument("index", type=int)
    arguments = parser.parse_args(argv)
    try:
        runs = read_grid(arguments.grid)
        if arguments.command == "count":
            print(len(runs))
        elif arguments.command == "names":
            print(*(run.name for run in runs), sep="\n")
        elif 1 <= arguments.index <= len(runs):
            print(*runs[arguments.index - 1].options, sep="\n")
        else:
            raise UserError(f"{arguments.grid} has the runs 1 to {len(runs)}, not {arguments.index}: mend --array")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
