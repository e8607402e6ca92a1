"""One change to a JSON value at a place drawn at random, as a slip of the hand or another program would make it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from hybatch.errors import UserError

T = TypeVar("T")

WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [10**400, float("nan"), float("inf"), -float("inf"), "", "x", "<b>|*`_[a](b)", "\ud800", "a\x00\n"]
    ),
    st.sampled_from([[], [1], ["ar"], [[]], {}, {"map": 1}, {"ar": None}, {"../x": {"map": 0.5}}]),
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> tuple[Any, list[str]]:
    """(the changed copy, the keys that lead to the change)."""
    changed = copy.deepcopy(value)
    parent, keys = changed, []
    while True:
        places = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = draw(st.sampled_from(places))
        keys.append(str(key))
        child = parent[key]
        if not isinstance(child, dict | list) or not child or draw(st.integers(0, 2)) == 0:
            break
        parent = child
    action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if action == "replace":
        parent[key] = draw(WRONG)
    elif action == "remove":
        del parent[key]
    elif isinstance(parent, dict):
        keys[-1] = draw(st.sampled_from(["extra", "../x", "", "a\x00"]))
        parent[keys[-1]] = draw(WRONG)
    else:
        parent.append(draw(WRONG))
    return changed, keys


def read_or_named(read: Callable[[], T], source: str, keys: Sequence[str]) -> T | None:
    """What was read; None where it was refused, in one line that names the source and one of the changed keys."""
    try:
        return read()
    except UserError as error:
        told = str(error)
    assert told.startswith(source), told
    assert any(key in told or repr(key)[1:-1] in told for key in keys), (keys, told)
    assert "\n" not in told
    return None
