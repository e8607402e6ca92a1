"""How often ranking waits for the device: on a GPU every read lets the queue run dry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ops.conftest import Place
from tests.ops.ranking.cases import Case, random_case

CASE = random_case(1, queries=20, candidates=50, width=8, groups=3, integers=True, most_positives=3)


class _Reads(TorchDispatchMode):
    """Notes what has to wait for values: those taken out of tensors, and tensors whose size they decide."""

    _OPS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.names: list[str] = []
        for name in ("tolist", "numpy", "cpu"):  # on tensors of the CPU these dispatch nothing
            monkeypatch.setattr(Tensor, name, self._noted(name, getattr(Tensor, name)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self._OPS:
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    def _noted(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(tensor: Tensor) -> Any:
            self.names.append(name)
            return original(tensor)

        return noted


def _reads_of(case: Case, place: Place, **options: object) -> list[str]:
    with pytest.MonkeyPatch.context() as patched, _Reads(patched) as reads:
        case.count(place, **options)
    return reads.names


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_validated_count_of_one_block_reads_back_three_times_an_unvalidated_one_never(
    place: Place, precision: str
) -> None:
    if place.backend == "torch":
        pytest.skip("reads back as it counts")
    assert _reads_of(CASE, place, precision=precision) == ["tolist"] * 3
    assert _reads_of(CASE, place, precision=precision, validate=False) == []


def test_codes_so_wide_that_their_scores_may_not_be_exact_take_two_reads_more(place: Place) -> None:
    if place.backend == "torch":
        pytest.skip("reads back as it counts")
    case = random_case(2, queries=20, candidates=50, width=1025, groups=3, integers=True)
    codes = dataclasses.replace(case, queries=case.queries.to(torch.int8), candidates=case.candidates.to(torch.int8))
    assert len(_reads_of(codes, place)) == 5
    assert _reads_of(codes, place, validate=False) == []
