"""What this machine's processor and memory are taken to be."""

from __future__ import annotations

import psutil
import torch

from hybatch.training.plan.machine import memory_bytes, product_flops


def test_the_memory_is_that_of_the_whole_machine() -> None:
    assert memory_bytes() == psutil.virtual_memory().total


def test_the_rate_of_products_is_measured() -> None:
    assert 1e8 < product_flops(torch.float32) < 1e15
