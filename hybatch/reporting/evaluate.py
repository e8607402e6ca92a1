"""`hybatch evaluate`: an evaluation, and the heatmap of its language pairs beside its results."""

from __future__ import annotations

from collections.abc import Sequence

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.reporting.figures import draw_heatmap, save_figure

SUMMARY = "score a model, or ready embeddings, in every language setting of a task"
HEATMAP = "heatmap.png"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch evaluate` and return its exit code.

    Raises:
        UserError: an option, a file or the model cannot be used.
    """
    outcome = evaluate(argv)
    if outcome.output_dir and outcome.is_main_process and "pairs" not in outcome.results:
        print(f"wrote {outcome.output_dir}: results.json, per_query.npz, timings.json")
    elif outcome.output_dir and outcome.is_main_process:
        path = outcome.output_dir / HEATMAP
        try:
            save_figure(draw_heatmap(outcome.results), path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        print(f"wrote {outcome.output_dir}: results.json, per_query.npz, timings.json, {HEATMAP}")
    return 0
