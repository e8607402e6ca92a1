"""Measuring an encoder in every language setting: monolingual, each cross-lingual pair, one multilingual pool."""

from hybatch.evaluation.scoring import evaluate_encoder, score
from hybatch.evaluation.tasks import RetrievalTask, load_task, parallel_task

__all__ = ["RetrievalTask", "evaluate_encoder", "load_task", "parallel_task", "score"]
