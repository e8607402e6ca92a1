"""The terminal shows names as people gave them."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.table import Table

import hybatch
from hybatch.terminal import table_console

_NAMES = ["runs/[/b]/final", "[alpha=0.5]", "[bold]", r"a\[b", ":cat:", "[link=x]"]


@pytest.mark.parametrize("name", _NAMES)
def test_a_name_is_shown_as_it_stands_wherever_it_stands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=f"title {name}", caption=f"caption {name}")
    table.add_column(f"heading {name}")
    table.add_row(f"cell {name}")
    console = table_console()
    console.print(table)
    console.print(f"line {name}")
    printed = capsys.readouterr().out
    for place in ("title", "caption", "heading", "cell", "line"):
        assert f"{place} {name}" in printed


def test_no_other_console_prints_tables() -> None:
    package = Path(hybatch.__file__).parent
    makers = [path.name for path in package.rglob("*.py") if "Console(" in path.read_text(encoding="utf-8")]
    assert makers == ["terminal.py"]
