"""The CPU kernels without torch: under sanitizers, and those of AArch64 in an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
AARCH64_COMPILER = "aarch64-linux-gnu-g++"  # Debian's package g++-aarch64-linux-gnu
EMULATOR = "qemu-aarch64"  # of qemu-user


def output_of(*command: str | Path, compiler: str | None = None) -> str:
    environment = {**os.environ, **({} if compiler is None else {"CXX": compiler})}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def digests(driver_output: str) -> dict[str, str]:
    """Of thresholds and counts, by instruction set."""
    return dict(line.split() for line in driver_output.splitlines()[1:])


@pytest.mark.slow
def test_the_kernels_run_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    output_of(HERE / "run_sanitized.sh", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_kernels_of_aarch64_rank_bit_for_bit_as_those_of_this_machine_and_compute_the_loss(tmp_path: Path) -> None:
    missing = [program for program in (AARCH64_COMPILER, EMULATOR) if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found: Debian's packages are g++-aarch64-linux-gnu and qemu-user")
    build, there, here = HERE / "build_drivers.sh", tmp_path / "aarch64", tmp_path / "here"
    output_of(build, there, "ranking contrastive", "-O3", "-static", compiler=AARCH64_COMPILER)
    output_of(build, here, "ranking", "-O3")
    output_of(EMULATOR, there / "contrastive_driver")  # which compares with sums in double precision
    emulated = digests(output_of(EMULATOR, there / "ranking_driver"))
    native = digests(output_of(here / "ranking_driver"))
    assert set(emulated) == {"portable", "neon"}
    assert set(emulated.values()) == set(native.values()) == {native["portable"]}
