"""`hybatch evaluate`: an evaluation, and the heatmap of its language pairs beside its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.results import RESULTS
from hybatch.reporting.figures.files import save_figure
from hybatch.reporting.figures.heatmaps import draw_heatmap
from hybatch.reporting.results import PairResults, results_from

HEATMAP = "heatmap.png"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch evaluate` and return its exit code.

    Raises:
        UserError: an option, a file or the model cannot be used.
    """
    outcome = evaluate(argv)
    for one in outcome.evaluations if outcome.is_main_process else ():
        if one.folder:
            _draw(one.results, one.folder)
    return 0


def _draw(results: Mapping[str, Any], folder: Path) -> None:
    written = "results.json, per_query.npz, timings.json"
    checked = results_from(results, str(folder / RESULTS))
    if isinstance(checked, PairResults):
        path = folder / HEATMAP
        try:
            save_figure(draw_heatmap(checked), path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        written += f", {HEATMAP}"
    print(f"wrote {folder}: {written}")
