"""`hybatch env`: versions, devices, and which backend each op will use and why."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence

import torch
from rich.table import Table

from hybatch.backends import recall_all_figures
from hybatch.ops import describe
from hybatch.ops.processor import processor_facts, processor_name
from hybatch.terminal import table_console
from hybatch.version import __version__

VARIABLES = ("HYBATCH_BACKEND", "HYBATCH_CACHE_DIR", "HYBATCH_DATA_DIR", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


def _dependencies() -> list[str]:
    """Names of the packages that hybatch itself requires, extras left out."""
    required = importlib.metadata.requires("hybatch") or []
    return [re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]


def _version_rows() -> list[tuple[str, str]]:
    rows = [("hybatch", __version__), ("python", platform.python_version()), ("platform", platform.platform())]
    for name in sorted(_dependencies()):
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, "not installed"))
    return rows


def _device_rows() -> list[tuple[str, str]]:
    rows = [("cpu", f"{processor_name(processor_facts())}, {torch.get_num_threads()} threads in torch")]
    if not torch.cuda.is_available():
        reason = "this torch is a CPU build" if torch.version.cuda is None else "torch sees no CUDA device"
        return [*rows, ("cuda", f"none: {reason}")]
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        rows.append(
            (f"cuda:{index}", f"{device.name}, sm_{device.major}{device.minor}, {device.total_memory / 2**30:.0f} GiB")
        )
    return rows


def _table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def main(argv: list[str]) -> int:
    """Print the tables; takes no options but --help."""
    argparse.ArgumentParser(prog="hybatch env", description=__doc__).parse_args(argv)
    recall_all_figures()
    console = table_console()
    console.print(_table("Versions", ("package", "version"), _version_rows()))
    console.print(_table("Devices", ("device", "what"), _device_rows()))
    console.print(_table("Ops", ("op", "backend", "why"), [tuple(row) for row in describe()]))
    console.print(_table("Environment", ("variable", "value"), [(v, os.environ.get(v, "unset")) for v in VARIABLES]))
    return 0
