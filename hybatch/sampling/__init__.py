"""Which global batch comes at step s."""

from hybatch.sampling.cells import Cell, ExcludedCell, NoCellError
from hybatch.sampling.config import AlphaSchedule, BatchKind, SamplingConfig
from hybatch.sampling.sampler import BatchSampler, BatchTexts, GlobalBatch
from hybatch.sampling.summary import CellSummary, SamplingSummary, left_out, summarise, summary_tables

__all__ = [
    "AlphaSchedule",
    "BatchKind",
    "BatchSampler",
    "BatchTexts",
    "Cell",
    "CellSummary",
    "ExcludedCell",
    "GlobalBatch",
    "NoCellError",
    "SamplingConfig",
    "SamplingSummary",
    "left_out",
    "summarise",
    "summary_tables",
]
