"""What `hybatch evaluate` does, but for its figure: options, checks, encoding, scoring, table and files."""

from hybatch.evaluation.command.run import EvaluationOutcome, evaluate

__all__ = ["EvaluationOutcome", "evaluate"]
