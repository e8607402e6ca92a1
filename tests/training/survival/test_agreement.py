"""Processes that disagree are told what they disagree on."""

from __future__ import annotations

import torch.distributed as dist

from hybatch.errors import UserError
from hybatch.training.survival.agreement import check_agreement
from tests.processes import run_processes


def _complaint() -> list[str]:
    rank = dist.get_rank()
    same = {"step": 7, "batch kind": "x-y"}
    check_agreement(same, "at a checkpoint")
    complaints = []
    for facts in (same | {"batch kind": "x-y" if rank == 0 else "x-x-mono"}, same | ({"seed": 3} if rank else {})):
        try:
            check_agreement(facts, "at a checkpoint")
        except UserError as error:
            complaints.append(str(error))
    return complaints


def test_a_difference_is_named_with_its_process_on_every_process() -> None:
    expected = [
        "the processes do not agree at a checkpoint:\n  batch kind: 'x-y' on process 0, 'x-x-mono' on process 1",
        "the processes do not agree at a checkpoint:\n  seed: None on process 0, 3 on process 1",
    ]
    assert run_processes(_complaint, 2) == [expected, expected]
