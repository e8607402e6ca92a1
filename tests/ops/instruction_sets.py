"""The instruction sets that the compiled CPU ops can use on this machine, the fastest first."""

from __future__ import annotations

from hybatch.ops import backend

if backend.why_missing("cpu") is None:
    from hybatch import _build_info

    INSTRUCTION_SETS = _build_info.instruction_sets()
else:
    INSTRUCTION_SETS = ["portable"]  # the tests of the compiled ops are skipped, but still collected
