"""Which global batch comes at step s."""

from hybatch.sampling.cells import Cell, ExcludedCell, NoCellError
from hybatch.sampling.config import Phase, SamplingConfig, ShareSchedule
from hybatch.sampling.kinds import COMPOSITIONS, KINDS, LABELS, BatchKind
from hybatch.sampling.sampler import BatchSampler, BatchTexts, GlobalBatch
from hybatch.sampling.summary import CellSummary, SamplingSummary, left_out, summarise, summary_tables

AlphaSchedule = ShareSchedule
"""Its name in version 0.1.0."""

__all__ = [
    "COMPOSITIONS",
    "KINDS",
    "LABELS",
    "AlphaSchedule",
    "BatchKind",
    "BatchSampler",
    "BatchTexts",
    "Cell",
    "CellSummary",
    "ExcludedCell",
    "GlobalBatch",
    "NoCellError",
    "Phase",
    "SamplingConfig",
    "SamplingSummary",
    "ShareSchedule",
    "left_out",
    "summarise",
    "summary_tables",
]
