"""What tables call a sampling, and in which order samplings stand."""

from __future__ import annotations

from hybatch.sampling.kinds import KINDS

HYBRID = "hybrid"
SCHEDULED = "hybrid-scheduled"
"""Hybrid batches whose shares change over the run."""


def sampling_label(name: str) -> str:
    """A kind of batch as the field writes it; what is made of several kinds as it is called."""
    if name in KINDS:
        return KINDS[name].label
    return "hybrid scheduled" if name == SCHEDULED else name
