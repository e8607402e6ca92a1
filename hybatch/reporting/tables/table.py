"""A table before it is rendered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of figures: its heading, digits after the point, and which end is better; None where neither is."""

    heading: str
    digits: int = 4
    higher_is_better: bool | None = True


@dataclass(frozen=True)
class Row:
    """A row of figures or words; None where there is no such figure. `measured` is False for published ones.

    block: rows are ranked among the measured rows of their block; a rule sets blocks apart.
    deviations, counts: of figures that are means over several runs, their standard deviations (None with one run) and
        the numbers of runs; empty in a row of single figures.
    signs: what stands after each figure, such as a mark of significance; empty without any.
    """

    label: str
    values: tuple[float | str | None, ...]
    measured: bool = True
    block: str = ""
    deviations: tuple[float | None, ...] = ()
    counts: tuple[int | None, ...] = ()
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportTable:
    """A table before it is rendered. `slug` names its files."""

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


def file_name(name: str) -> str:
    """A label as part of a file's name: letters and digits of any script, the rest as hyphens."""
    return "".join(character if character.isalnum() else "-" for character in name).strip("-")
