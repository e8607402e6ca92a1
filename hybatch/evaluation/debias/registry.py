"""The methods that `hybatch debias --method NAME` knows."""

from __future__ import annotations

from hybatch.evaluation.debias.centre import CENTRE
from hybatch.evaluation.debias.lir import LIR
from hybatch.evaluation.debias.method import Method
from hybatch.evaluation.debias.shift import SHIFT

METHODS: dict[str, Method] = {method.name: method for method in (CENTRE, LIR, SHIFT)}
