"""Every test of the contrastive ops runs on every backend that is there; `torch` also on CUDA tensors."""

from __future__ import annotations

import pytest
import torch

from hybatch.ops.backend import why_missing
from tests.ops.conftest import PLACES, Place


@pytest.fixture(params=[*PLACES, Place("blas", "cpu")], ids=lambda place: f"{place.backend}-on-{place.device}")
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.param
    reason = why_missing(place.backend, "contrastive")
    if reason is not None or (place.device == "cuda" and not torch.cuda.is_available()):
        pytest.skip(reason or "torch finds no CUDA device")
    return place
