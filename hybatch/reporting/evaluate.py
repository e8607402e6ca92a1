"""`hybatch evaluate`: an evaluation, and the heatmap of its language pairs beside its results."""

from __future__ import annotations

from collections.abc import Sequence

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
    if not outcome.output_dir or not outcome.is_main_process:
        return 0
    written = "results.json, per_query.npz, timings.json"
    results = results_from(outcome.results, str(outcome.output_dir / RESULTS))
    if isinstance(results, PairResults):
        path = outcome.output_dir / HEATMAP
        try:
            save_figure(draw_heatmap(results), path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        written += f", {HEATMAP}"
    print(f"wrote {outcome.output_dir}: {written}")
    return 0
