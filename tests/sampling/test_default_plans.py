"""Options that version 0.1.0 had give the batches that they gave then: a run goes on with the data it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hybatch.sampling import SamplingConfig
from tests.sampling.default_plans import SEEDS, WEIGHTS, digest, plans

BEFORE = json.loads((Path(__file__).parent.parent / "written_before" / "plans.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "config"), [pytest.param(*plan, id=plan[0]) for plan in plans()])
def test_the_batches_of_a_kind_are_what_they_were(name: str, config: SamplingConfig) -> None:
    assert [digest(config, seed) for seed in SEEDS] == BEFORE[name]


def test_the_digests_tell_kinds_and_weights_apart() -> None:
    assert BEFORE.keys() == {name for name, _ in plans()}
    assert all(len(set(digests)) == len(SEEDS) for digests in BEFORE.values())
    names: dict[str, list[str]] = {}
    for name, (first, *_) in BEFORE.items():
        names.setdefault(first, []).append(name)
    alike = sorted(group for group in names.values() if len(group) > 1)
    ends = [["x-x-mono", "hybrid 1"], ["x-y", "hybrid 0"]]
    # Languages that are left out of a run are not missed by its English batches.
    expected = [[kind + weights, end + weights] for kind, end in ends for weights in WEIGHTS]
    assert alike == sorted([*expected, ["en-en", "en-en, en fi de"]])
