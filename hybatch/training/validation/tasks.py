"""Tasks of `hybatch evaluate`, measured on the encoder while it is trained."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation import RetrievalTask, evaluate_encoder, load_task
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import ScoringOptions
from hybatch.models import Encoder
from hybatch.paths import expand_path
from hybatch.training.config import RANK_DISTANCE, TASK_FIGURES, RunConfig, TaskConfig
from hybatch.training.strategy import Strategy


class TaskValidation:
    """The means of a task's figures over languages and pairs, as its results have them under `summary`.

    Attributes:
        larger_is_better: of the figure that may choose the best encoder.
        every_steps: after how many steps it is measured.
    """

    left_out: list[str] = []  # noqa: RUF012 (read only)

    def __init__(self, options: TaskConfig, task: RetrievalTask, encoder: Encoder, *, every_steps: int) -> None:
        self._options = options
        self._task = task
        self._encoder = encoder
        self.every_steps = options.every_steps or every_steps
        self.larger_is_better = not options.metric.endswith(RANK_DISTANCE)

    def measure(self) -> dict[str, float]:
        """`task/setting/metric` -> figure; "selection" is that of the task's metric, NaN where there is none.

        Collective under torch.distributed.
        """
        results = evaluate_encoder(self._encoder, self._task, batch_size=self._options.batch_size, progress=False)
        figures = {
            figure: value
            for figure in TASK_FIGURES
            if (value := results["summary"].get(figure.partition(".")[0], {}).get(figure.partition(".")[2])) is not None
        }
        named = {f"{self._options.task}/{figure.replace('.', '/')}": value for figure, value in figures.items()}
        return {"selection": figures.get(self._options.metric, math.nan), **named}


def task_validations(
    config: RunConfig, tasks: Sequence[RetrievalTask], strategy: Strategy
) -> dict[str, TaskValidation]:
    """The tasks by name.

    Args:
        tasks: of `load_tasks`.
    """
    encoder = strategy.encoder
    assert isinstance(encoder, Encoder)
    return {
        options.task: TaskValidation(options, task, encoder, every_steps=config.validation.every_steps)
        for options, task in zip(config.validation.tasks, tasks, strict=True)
    }


def load_tasks(config: RunConfig) -> list[RetrievalTask]:
    """Read the tasks of validation.tasks, in their order, before anything else of the run takes time.

    Raises:
        UserError: names the entry: there is no such task, language or figure, its data are not there or no texts, or it
            is of a kind that is not measured during a run.
    """
    tasks = []
    for place, options in enumerate(config.validation.tasks):
        try:
            tasks.append(_load(options))
        except UserError as error:
            raise UserError(f"validation.tasks.{place}: {error}") from error
    return tasks


def _load(options: TaskConfig) -> RetrievalTask:
    folder = options.data_dir or os.environ.get("HYBATCH_DATA_DIR")
    data_dir = Path(expand_path(folder, "data_dir")) if folder else None
    task = load_task(options.task, data_dir, options.languages)
    if not isinstance(task, RetrievalTask):
        raise UserError(
            f"task {options.task} is not scored in every language setting, and only such tasks are measured during a "
            "run; measure it afterwards, with hybatch evaluate"
        )
    task.check(Source(model=options.task), ScoringOptions())
    if options.metric.startswith("cross_lingual") and len(task.languages) < 2:
        raise UserError(f"metric {options.metric}: the task has one language, and so no pair of two; take another")
    return task
