"""The instruction sets that the compiled CPU ops can use on this machine, the fastest first."""

from __future__ import annotations

import importlib.util

from hybatch.ops import backend

# The libraries may stand alone, carried here from another Python.
if backend.why_missing("cpu") is None and importlib.util.find_spec("hybatch._build_info") is not None:
    from hybatch import _build_info

    INSTRUCTION_SETS = _build_info.instruction_sets()
else:
    INSTRUCTION_SETS = ["portable"]  # without the ops their tests are skipped, but still collected
