"""The limit of a container, as the kernel's files have it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hybatch.training.run import threads
from hybatch.training.run.threads import about_threads, processors_allowed


@pytest.mark.parametrize(
    ("membership", "files", "allowed"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/pod/box", {"pod/box/cpu.max": "max 100000", "pod/cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("1:cpu:/box", {"cpu/box/cpu.cfs_quota_us": "50000", "cpu/box/cpu.cfs_period_us": "100000"}, 0.5),
        # Within a container the group that is named stands at the top.
        (
            "4:memory:/\n3:cpu,cpuacct:/docker/0a",
            {"cpu,cpuacct/cpu.cfs_quota_us": "765000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            7.65,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_narrowest_limit_counts_in_either_version(
    membership: str, files: dict[str, str], allowed: float | None, tmp_path: Path
) -> None:
    (tmp_path / "membership").write_text(f"{membership}\n", encoding="utf-8")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    assert processors_allowed(cgroups=tmp_path / "cgroup", membership=tmp_path / "membership") == allowed


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert processors_allowed(cgroups=tmp_path, membership=tmp_path / "none") is None


@pytest.mark.parametrize(
    ("limit", "processes", "device", "said"),
    [
        (2.0, "1", "cpu", "8 CPU threads, but the container's limit is 2 processors: .*training.threads to 2"),
        (7.65, "2", "cpu", "8 CPU threads in each of 2 processes, .* is 7.65 processors: .*training.threads to 3"),
        (0.5, "", "cpu", "training.threads to 1"),
        (7.65, "1", "cpu", None),
        (None, "1", "cpu", None),
        (2.0, "1", "cuda", None),
    ],
)
def test_threads_beyond_the_limit_are_said_with_how_many_fit(
    limit: float | None, processes: str, device: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "processors_allowed", lambda: limit)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    line = about_threads(torch.device(device))
    if said is None:
        assert line is None
    else:
        assert re.search(said, line or "")
