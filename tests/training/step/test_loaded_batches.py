"""A process is given what it was given in version 0.1.0: texts, cuts, slots, and seeds of dropout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training.step.loaded_batches import LOADERS, digest

BEFORE = json.loads(
    (Path(__file__).parent.parent.parent / "written_before" / "loaded.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", LOADERS)
def test_what_a_process_is_given_is_what_it_was(name: str) -> None:
    assert digest(LOADERS[name]) == BEFORE[name]


def test_the_digests_tell_the_options_apart() -> None:
    assert len(set(BEFORE.values())) == len(BEFORE) == len(LOADERS)
