"""What tables show of results in every language setting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A metric of a kind of setting.

    slug, title: of a table by query language. heading: of a column in a summary.
    """

    slug: str
    heading: str
    title: str
    setting: str
    metric: str
    digits: int = 4
    higher_is_better: bool = True


MEASURES = (
    Measure("monolingual", "Mo.", "monolingual mAP", "monolingual", "map"),
    Measure(
        "cross-lingual",
        "Cr.",
        "cross-lingual mAP by query language (mean over candidate languages)",
        "cross_lingual",
        "map",
    ),
    Measure("multilingual", "Mul.", "multilingual mAP by query language", "multilingual", "map"),
    Measure(
        "rank-distance",
        "rank distance",
        "rank distance by query language",
        "multilingual",
        "rank_distance",
        1,
        higher_is_better=False,
    ),
)
