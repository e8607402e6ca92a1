"""Families: the study's groups that compare with one another, and how figures tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hybatch.reporting.study.aggregate import Group, Study


@dataclass(frozen=True)
class Family:
    """Groups of one start that saw the same languages in fine-tuning; they differ in the sampling."""

    start: str
    unseen_languages: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def title(self) -> str:
        """Such as "mini-xlmr" or "mini-xlmr without el, vi"."""
        return f"{self.start} without {', '.join(self.unseen_languages)}" if self.unseen_languages else self.start

    def with_task(self, task: str) -> tuple[Group, ...]:
        """The groups that have results of a task."""
        return tuple(group for group in self.groups if any(task in run.results for run in group.runs))


class Style(NamedTuple):
    """How a sampling is drawn, in every figure alike."""

    colour: str
    marker: str
    line: str


# Okabe and Ito's palette; markers and dashes tell apart what colour does not.
_STYLES = {
    "x-x-mono": Style("#0072B2", "o", "-"),
    "x-y": Style("#D55E00", "s", "--"),
    "hybrid": Style("#009E73", "D", "-."),
    "x-x": Style("#56B4E9", "^", ":"),
    "en-en": Style("#E69F00", "v", ":"),
    "sequential": Style("#CC79A7", "P", "--"),
    "hybrid-scheduled": Style("#000000", "X", "-"),
}
_OTHER_ALPHAS = (Style("#4D4D4D", "<", "--"), Style("#8C8C8C", ">", "--"), Style("#B8A000", "h", ":"))


def families(study: Study) -> tuple[Family, ...]:
    """In the order of the study's groups."""
    members: dict[tuple[str, tuple[str, ...]], list[Group]] = {}
    for group in study.groups:
        members.setdefault((group.start, group.unseen_languages), []).append(group)
    return tuple(Family(start, unseen, tuple(groups)) for (start, unseen), groups in members.items())


def styles(study: Study) -> dict[str, Style]:
    """The label of a group -> its style."""
    found: dict[str, Style] = {}
    others = 0
    for group in study.groups:
        if group.label in found:
            continue
        if group.sampling == "hybrid" and not group.is_paper:
            found[group.label] = _OTHER_ALPHAS[others % len(_OTHER_ALPHAS)]
            others += 1
        else:
            found[group.label] = _STYLES[group.sampling]
    return found
