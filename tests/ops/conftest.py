"""Every test of the ranking ops runs on every backend that is there; `torch` also on CUDA tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch

from hybatch.ops.backend import why_missing
from tests.ops.instruction_sets import INSTRUCTION_SETS


@dataclass(frozen=True)
class Place:
    """A backend and the device its tensors live on."""

    backend: str
    device: str

    @property
    def is_exact(self) -> bool:
        """Scores have more bits than float32."""
        return self.backend == "torch"


def _available(place: Place) -> bool:
    return why_missing(place.backend) is None and (place.device == "cpu" or torch.cuda.is_available())


PLACES = [Place("torch", "cpu"), Place("cpu", "cpu"), Place("torch", "cuda"), Place("cuda", "cuda")]


@pytest.fixture(params=PLACES, ids=lambda place: f"{place.backend}-on-{place.device}")
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.param
    if not _available(place):
        pytest.skip(why_missing(place.backend) or "torch finds no CUDA device")
    return place


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the compiled CPU ops' instruction sets, which they use during the test."""
    monkeypatch.setenv("HYBATCH_CPU_ISA", request.param)
    return str(request.param)


@pytest.fixture
def num_threads() -> Iterator[Callable[[int], None]]:
    """Sets torch's number of threads for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
