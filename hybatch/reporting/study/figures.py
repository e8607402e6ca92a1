"""The figures of the study: which are drawn, their files and captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hybatch.reporting.figures import FigureFile, write_figure
from hybatch.reporting.study.aggregate import Study
from hybatch.reporting.study.families import families, styles
from hybatch.reporting.study.figures_by_pair import draw_gains, draw_pairs
from hybatch.reporting.study.figures_by_sampling import draw_alpha, draw_curves, draw_rank_distance, draw_trade_off
from hybatch.reporting.study.rows import task_name
from hybatch.reporting.tables import file_name

_BY_SAMPLING = (
    (draw_trade_off, "trade-off", "monolingual against multilingual mAP, up and right is better"),
    (draw_alpha, "alpha", "mAP against alpha; bars are standard deviations over seeds"),
    (draw_rank_distance, "rank-distance", "rank distance by query language; bars are standard deviations over seeds"),
)


def write_study_figures(study: Study, directory: Path) -> dict[str, list[FigureFile]]:
    """Draw whatever the study's runs can fill, as `study-<what>.png` and `.svg`; what they are about -> figures.

    Raises:
        OSError: a file cannot be written.
    """
    return {
        "Samplings compared": list(_by_sampling(study, directory)),
        "Hybrid against the better rival": list(_gains(study, directory)),
        "Learning curves of the study": list(_curves(study, directory)),
        "Language pairs of the study": list(_pairs(study, directory)),
    }


def _by_sampling(study: Study, directory: Path) -> Iterator[FigureFile]:
    for draw, name, caption in _BY_SAMPLING:
        for task in study.languages:
            if (figure := draw(study, task)) is not None:
                name_of_file = f"study-{name}-{file_name(task)}"
                yield write_figure(figure, directory, name_of_file, f"{task_name(task)}: {caption}")


def _gains(study: Study, directory: Path) -> Iterator[FigureFile]:
    for task in study.languages:
        for family, figure in draw_gains(study, task):
            caption = f"{task_name(task)}: {family.title}, hybrid minus the better rival in each cell, mAP"
            yield write_figure(figure, directory, f"study-gain-{file_name(f'{task} {family.title}')}", caption)


def _curves(study: Study, directory: Path) -> Iterator[FigureFile]:
    looks = styles(study)
    for family in families(study):
        if (figure := draw_curves(family, looks)) is not None:
            caption = f"{family.title}: learning curves of every kind of batch"
            yield write_figure(figure, directory, f"study-curves-{file_name(family.title)}", caption)


def _pairs(study: Study, directory: Path) -> Iterator[FigureFile]:
    for task in study.languages:
        for family, group, figure in draw_pairs(study, task):
            caption = f"{task_name(task)}: {family.title}, {group.label}, mAP of every language pair and of the pool"
            name = f"study-pairs-{file_name(f'{task} {family.title} {group.label}')}"
            yield write_figure(figure, directory, name, caption)
