"""Processors are told apart, and the peak is one that no matrix product beats."""

from __future__ import annotations

import platform
import shutil
import time

import processor
import pytest
import torch


def _intel(model: int, stepping: int) -> dict[str, str]:
    return {"vendor_id": "GenuineIntel", "cpu family": "6", "model": str(model), "stepping": str(stepping)}


def _amd(family: int, model: int) -> dict[str, str]:
    return {"vendor_id": "AuthenticAMD", "cpu family": str(family), "model": str(model), "stepping": "1"}


@pytest.mark.parametrize(
    ("found", "key"),
    [
        (_amd(25, 1), "zen3"),
        (_amd(25, 17), "zen4"),
        (_amd(25, 0x50), "zen3"),
        (_amd(25, 0x61), "zen4"),
        (_amd(26, 2), "zen5"),
        (_intel(85, 4), "skylake"),
        (_intel(85, 7), "cascadelake"),
        (_intel(143, 8), "sapphirerapids"),
        ({"CPU implementer": "0x41", "CPU part": "0xd40"}, "neoversev1"),
        ({"CPU implementer": "0x41", "CPU part": "0xd40", "stepping": "unknown"}, platform.machine().replace("_", "")),
        ({"model name": "Apple M2 Pro"}, "applem2pro"),
        (_amd(99, 1) | {"model name": "AMD EPYC 9999 99-Core"}, "amdepyc999999core"),
    ],
)
def test_a_processor_is_known_by_its_numbers_else_by_its_name(found: dict[str, str], key: str) -> None:
    assert processor.key(found) == key


def test_a_name_tells_what_a_virtual_machine_leaves_out() -> None:
    found = _amd(25, 17) | {"model name": "AMD EPYC", "flags": "fpu avx2 avx512f"}
    assert processor.name(found).startswith("AMD EPYC (AMD Zen 4, cpu family 25, model 17, AVX-512), ")


def test_no_processor_belongs_to_two_rows_of_the_table_and_keys_fit_the_names_of_files() -> None:
    rows = processor.MICROARCHITECTURES
    numbers = [(r.vendor, r.family, model, stepping) for r in rows for model in r.models for stepping in r.steppings]
    assert len(set(numbers)) == len(numbers)
    assert all(row.key.isalnum() and row.key.islower() for row in rows)


@pytest.mark.skipif(not any(map(shutil.which, processor.COMPILERS)), reason="no C++ compiler to measure with")
def test_no_matrix_product_is_faster_than_the_peak() -> None:
    peak = processor.peak_gflops(torch.get_num_threads())
    one, other = torch.randn(256, 256), torch.randn(256, 256)
    best = float("inf")
    for _ in range(30):
        start = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - start)
    assert peak is not None
    assert 0 < 2 * 256**3 / best / 1e9 < 1.05 * peak


def test_a_compiler_that_fails_leaves_no_peak_and_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "false")
    assert processor.peak_gflops(1) is None
    assert "false could not compile peak.cpp" in capsys.readouterr().out


def test_without_a_compiler_there_is_no_peak_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert processor.peak_gflops(1) is None
    assert "no C++ compiler" in capsys.readouterr().out
