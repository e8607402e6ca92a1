"""Measuring an encoder in every language setting: monolingual, each cross-lingual pair, one multilingual pool."""

from hybatch.evaluation.scoring import evaluate_encoder, score
from hybatch.evaluation.tasks.parallel import parallel_task
from hybatch.evaluation.tasks.registry import load_task
from hybatch.evaluation.tasks.task import RetrievalTask

__all__ = ["RetrievalTask", "evaluate_encoder", "load_task", "parallel_task", "score"]
