"""Families: a grid's groups that compare with one another, and how figures tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

from hybatch.reporting.grids.groups import Grid, Group
from hybatch.reporting.samplings import HYBRID


@dataclass(frozen=True)
class Family:
    """Groups of one start that saw the same languages in fine-tuning; they differ in the sampling."""

    title: str
    groups: tuple[Group, ...]

    def with_task(self, task: str) -> tuple[Group, ...]:
        """The groups that have results of a task."""
        return tuple(group for group in self.groups if any(task in run.results for run in group.runs))


class Style(NamedTuple):
    """How a sampling is drawn, in every figure alike."""

    colour: str
    marker: str
    line: str


# Okabe and Ito's palette; markers and dashes tell apart what colour does not.
_STYLES = (
    Style("#0072B2", "o", "-"),
    Style("#D55E00", "s", "--"),
    Style("#009E73", "D", "-."),
    Style("#56B4E9", "^", ":"),
    Style("#E69F00", "v", ":"),
    Style("#CC79A7", "P", "--"),
    Style("#000000", "X", "-"),
)
_OTHER_ALPHAS = (Style("#4D4D4D", "<", "--"), Style("#8C8C8C", ">", "--"), Style("#B8A000", "h", ":"))


def families(grid: Grid) -> tuple[Family, ...]:
    """In the order of the grid's groups; called as their start, "mini" or "mini without el, vi"."""
    members: dict[tuple[str, tuple[str, ...]], list[Group]] = {}
    for group in grid.groups:
        members.setdefault((group.start, group.unseen_languages), []).append(group)
    return tuple(Family(_title(groups[0]), tuple(groups)) for groups in members.values())


def _title(group: Group) -> str:
    unseen = f" without {', '.join(group.unseen_languages)}" if group.unseen_languages else ""
    return f"{group.start_label}{unseen}"


def styles(grid: Grid) -> dict[str, Style]:
    """The label of a group -> its style."""
    labels = {group.key: group.label for group in grid.groups}
    others = [key for key in grid.samplings if key.startswith(f"{HYBRID} ")]
    # Beyond seven, markers go with other colours.
    plain = [key for key in grid.samplings if key not in others]
    looks = {
        labels[key]: Style(one.colour, _STYLES[(n + n // len(_STYLES)) % len(_STYLES)].marker, one.line)
        for n, (key, one) in enumerate(zip(plain, cycle(_STYLES), strict=False))
    }
    return looks | {labels[key]: one for key, one in zip(others, cycle(_OTHER_ALPHAS), strict=False)}
