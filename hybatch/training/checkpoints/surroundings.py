"""What a run must share with another for its numbers to be the same bit for bit, and what has changed since."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from typing import Any

import accelerate
import numpy
import tokenizers
import torch
import transformers

from hybatch.processes import world_size
from hybatch.version import __version__


@dataclass(frozen=True)
class Surroundings:
    """What a run must have in common with another for its numbers to be the same bit for bit.

    Attributes:
        backends: which backend each op runs on (see `hybatch.backends`); empty where none was chosen.
    """

    processes: int
    threads: int
    strategy: str
    device: str
    versions: dict[str, str]
    backends: dict[str, str] = field(default_factory=dict)

    def differences(self, other: Surroundings) -> list[str]:
        """Say what changed from `self` to `other`, e.g. "threads 2 -> 1"."""
        mine, theirs = self._flat(), other._flat()
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        changed = [f"{name} {mine.get(name)} -> {theirs.get(name)}" for name in names]
        # Earlier versions wrote no backends: what is not known has not changed.
        both = self.backends.keys() & other.backends.keys()
        moved = [name for name in sorted(both) if self.backends[name] != other.backends[name]]
        return changed + [f"backend of {name} {self.backends[name]} -> {other.backends[name]}" for name in moved]

    def _flat(self) -> dict[str, Any]:
        named = asdict(self)
        return {**{name: named[name] for name in ("processes", "threads", "strategy", "device")}, **self.versions}


def surroundings(device: torch.device, strategy: str) -> Surroundings:
    """Those of this process; `strategy` by its name."""
    modules = (torch, transformers, tokenizers, accelerate, numpy)
    versions = {"python": platform.python_version(), "hybatch": __version__}
    versions |= {module.__name__: str(module.__version__) for module in modules}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Surroundings(world_size(), torch.get_num_threads(), strategy, name, versions)
