"""Measuring an encoder in every language setting: monolingual, each cross-lingual pair, one multilingual pool."""

from hybatch.evaluation.catalogue.registry import load_task
from hybatch.evaluation.settings.scoring import evaluate_encoder, score
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.evaluation.tasks.parallel import parallel_task

__all__ = ["RetrievalTask", "evaluate_encoder", "load_task", "parallel_task", "score"]
