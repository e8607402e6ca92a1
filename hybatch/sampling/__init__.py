"""Which global batch comes at step s."""

from hybatch.sampling.cells import Cell, ExcludedCell, NoCellError
from hybatch.sampling.config import Phase, SamplingConfig, ShareSchedule
from hybatch.sampling.kinds import COMPOSITIONS, KINDS, LABELS, BatchKind
from hybatch.sampling.sampler import BatchSampler, BatchTexts, GlobalBatch
from hybatch.sampling.summary import CellSummary, SamplingSummary, left_out, summarise, summary_tables

__all__ = [
    "COMPOSITIONS",
    "KINDS",
    "LABELS",
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
