"""Which differences between two configurations matter."""

from __future__ import annotations

from hybatch.training.flat import flatten
from hybatch.training.run.run_folder import differing_fields


def test_nested_values_become_leaves() -> None:
    value = {"a": {"b": [1, {"c": 2}], "d": []}, "e": None}
    assert flatten(value) == {"a.b.0": 1, "a.b.1.c": 2, "a.d": [], "e": None}


def test_only_fields_that_change_what_is_computed_count() -> None:
    before = {
        "output_dir": "a",
        "seed": 1,
        "corpora": [{"path": "x", "split": "train"}],
        "loss": {"temperature": 0.05},
        "training": {"steps": 5, "log_every": 1, "trackers": ["tensorboard"]},
    }
    now = {
        "output_dir": "b",
        "seed": 2,
        "corpora": [{"path": "y", "split": "dev"}],
        "loss": {"temperature": 0.05, "gather": "ring"},
        "training": {"steps": 5, "log_every": 2, "trackers": []},
    }
    assert differing_fields(before, now) == ["corpora.0.split: was 'train', now 'dev'", "seed: was 1, now 2"]


def test_a_field_that_one_of_them_lacks_is_named() -> None:
    assert differing_fields({"seed": 1, "a": 2}, {"a": 2}) == ["seed: was 1, now 'nothing'"]
