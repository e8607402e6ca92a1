"""Runs the scripts for a machine with a GPU on one without: its tools are stand-ins, found first on the PATH."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = {
    "nvidia-smi": "echo a stand-in",
    "nvcc": "echo a stand-in",
    "compute-sanitizer": 'shift 4; echo in the sanitizer; exec "$@"',
}


@dataclass
class Rehearsal:
    """One call of a script and what came back of it."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str) -> subprocess.Popen[str]:
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        for name, what in TOOLS.items():
            (tools / name).write_text(f"#!/bin/sh\n{what}\n", encoding="utf-8")
            (tools / name).chmod(0o755)
        variables = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": sys.executable, "OUT": str(self.out)}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **variables, **self.variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def archive(self) -> dict[str, str]:
        """The texts of the one archive that came back, by their names in it."""
        (path,) = self.out.iterdir()
        with tarfile.open(path) as archive:
            files = [member for member in archive.getmembers() if member.isfile()]
            return {
                member.name.partition("/")[2]: archive.extractfile(member).read().decode(errors="replace")  # type: ignore[union-attr]
                for member in files
            }

    def steps(self) -> dict[str, str]:
        """The status of each step, by its name."""
        return dict(line.split("\t")[:2] for line in self.archive()["steps.tsv"].splitlines())
