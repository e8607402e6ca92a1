"""mteb's task results as results.json."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from hybatch.evaluation.mteb.results import row_names, to_results


def test_every_split_and_subset_has_a_row_and_the_mean_is_over_those_with_a_figure() -> None:
    pytest.importorskip("mteb", reason="mteb is not installed; pip install 'hybatch[mteb]'")
    metadata = SimpleNamespace(
        name="Local",
        main_score="f1",
        hf_subsets_to_langscripts={"default": ["swh-Latn", "eng-Latn"], "de": ["deu-Latn"]},
    )
    task = SimpleNamespace(metadata=metadata, eval_splits=["dev", "test"], hf_subsets=["default", "de"])
    scores = {
        "dev": [{"hf_subset": "default", "main_score": 0.25}, {"hf_subset": "de", "main_score": math.nan}],
        "test": [{"hf_subset": "default", "main_score": 0.12345678}, {"hf_subset": "fr", "main_score": 1.0}],
    }
    results = to_results(task, SimpleNamespace(scores=scores), model="m")
    assert results["figures"] == {
        "swh-Latn-eng-Latn (dev)": {"f1": 0.25},
        "de (dev)": {"f1": None},
        "swh-Latn-eng-Latn (test)": {"f1": 0.123457},
        "de (test)": {"f1": None},
    }
    assert results["languages"] == row_names(task)
    assert results["summary"]["mean"]["f1"] == pytest.approx((0.25 + 0.123457) / 2)
