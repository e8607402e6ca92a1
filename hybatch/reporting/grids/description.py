"""grid.yaml: what a report says of a grid, beside its records.

    name: sweep                 # its tables and figures are called sweep-...; in texts "the sweep"; default: grid
    starts:                     # in the order of the tables; others follow, those from random weights last
      base: {label: XLM-R base, published: xlm-r}  # what tables call it; the published model that stands below its rows
    samplings: [x-y, hybrid, hybrid 0.25]          # in the order of the tables; others follow
    tasks: [mlqa-r, xquad-r]                       # likewise
    claims:                     # put to the test: the sampling is better than the better of its rivals
      - {name: claim, title: The claim, sampling: hybrid, rivals: [x-x-mono, x-y]}
    numbers: {summary: [1], rank-distance: [2], xquad-r: [3, 4, 5]}  # of tables that stand for those of a paper

Everything may be left out. A hybrid whose alpha is not the default is called with it, as `hybrid 0.25`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hybatch.errors import UserError
from hybatch.reporting.checked_json import Checked, Wrong, by_name, count, names, text
from hybatch.reporting.samplings import sampling_label
from hybatch.reporting.tables.published import published_figures

DESCRIPTION = "grid.yaml"
_MEND = "see study/README.md"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What fine-tuning starts from. `published`: the model of the published figures that stand below its rows."""

    label: str
    published: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That a sampling is better than the better of its rivals, in every setting. `name` is part of files' names."""

    name: str
    title: str
    sampling: str
    rivals: tuple[str, ...]

    @property
    def label(self) -> str:
        """Of the sampling."""
        return sampling_label(self.sampling)

    @property
    def best(self) -> str:
        """What the rival is called that does best: of two the better one."""
        return "better" if len(self.rivals) <= 2 else "best"

    def against(self, note: str = "") -> str:
        """The rivals in words: "the better of X-X-mono and X-Y"; `note` says what better means."""
        *others, last = map(sampling_label, self.rivals)
        if not others:
            return last
        return f"the {self.best}{note} of {', '.join(others)} and {last}"


@dataclass(frozen=True, kw_only=True)
class GridDescription:
    """See the top of the file."""

    name: str = "grid"
    starts: Mapping[str, Start] = field(default_factory=dict)
    samplings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def start(self, name: str) -> Start:
        """What is said of a start."""
        return self.starts.get(name, Start(label=name))


def read_description(path: Path) -> GridDescription:
    """Read a grid.yaml.

    Raises:
        UserError: it cannot be read, or a value in it is unknown or of the wrong kind; the message names the keys.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); {_MEND}") from error
    return description_from({} if value is None else value, str(path))


def description_from(value: Any, source: str) -> GridDescription:
    """Check what a grid.yaml holds.

    Args:
        source: what messages call it.

    Raises:
        UserError: a value is unknown or of the wrong kind; the message names the keys.
    """
    at = Checked(value, source, _MEND)
    at.only("name", "starts", "samplings", "tasks", "claims", "numbers")
    claims: Sequence[Any] = at.get("claims", _list, default=())
    found = GridDescription(
        name=at.get("name", _file_name, default="grid"),
        starts=_starts(at) if at.value.get("starts") is not None else {},
        samplings=at.get("samplings", names, default=()),
        tasks=at.get("tasks", names, default=()),
        claims=tuple(_claim(Checked(one, source, _MEND, ("claims", str(n)))) for n, one in enumerate(claims)),
        numbers=at.get("numbers", by_name(_numbers), default={}),
    )
    if len({one.sampling for one in found.claims}) < len(found.claims):
        at.refuse("claims", "one claim of each sampling: name all of its rivals in it")
    if len({one.name for one in found.claims}) < len(found.claims):
        at.refuse("claims", "names that tell the claims apart")
    return found


def _starts(at: Checked) -> dict[str, Start]:
    found = {}
    models = tuple(dict.fromkeys(one.model for one in published_figures()))
    starts = at.child("starts")
    for name in starts.names():
        one = starts.child(name) if starts.value[name] is not None else Checked({}, "", "")
        one.only("label", "published")
        published = one.get("published", text, default=None)
        if published is not None and published not in models:
            one.refuse("published", f"one of {', '.join(models)}")
        found[name] = Start(label=one.get("label", text, default=name), published=published)
    return found


def _claim(at: Checked) -> Claim:
    at.only("name", "title", "sampling", "rivals")
    claim = Claim(
        name=at.get("name", _file_name, default="claim"),
        title=at.get("title", text, default="The claim"),
        sampling=at.get("sampling", text),
        rivals=at.get("rivals", names),
    )
    if not claim.rivals or claim.sampling in claim.rivals:
        at.refuse("rivals", f"one or more samplings other than {claim.sampling}")
    return claim


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w-]*", value):
        raise Wrong("a word of letters, digits and hyphens")
    return value


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise Wrong("a list")
    return value


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(map(count, _list(value)))
