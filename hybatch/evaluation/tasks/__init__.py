"""Retrieval tasks: what is asked, of which candidates, and what answers it."""

from hybatch.evaluation.tasks.parallel import parallel_task
from hybatch.evaluation.tasks.registry import TASKS, TaskEntry, load_task
from hybatch.evaluation.tasks.task import RetrievalTask

__all__ = ["TASKS", "RetrievalTask", "TaskEntry", "load_task", "parallel_task"]
