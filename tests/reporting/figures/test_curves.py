"""Which rows of metrics.jsonl become which curves."""

from __future__ import annotations

import pytest

from hybatch.reporting.figures.curves import learning_curves


def test_training_losses_are_kept_apart_by_batch_kind() -> None:
    rows = [
        {"step": 1, "loss": 3.0, "kind": "x-y"},
        {"step": 2, "loss": 2.0, "kind": "x-x-mono"},
        {"step": 3, "loss": 1.0, "kind": "x-y"},
        {"event": "resumed"},
    ]
    assert learning_curves(rows) == {"training loss": {"x-x-mono": [(2, 2.0)], "x-y": [(1, 3.0), (3, 1.0)]}}


def test_long_curves_are_thinned_to_means_of_their_stretches() -> None:
    rows = [{"step": step, "loss": float(step), "kind": "x-y"} for step in range(1000)]
    curve = learning_curves(rows)["training loss"]["x-y"]
    assert len(curve) == 200
    assert curve[0] == (2, 2.0)
    assert sum(loss for _, loss in curve) / 200 == pytest.approx(499.5)


@pytest.mark.parametrize(
    "row",
    [
        {
            "step": 5,
            "validation": {"loss": {"x-y": 2.0}, "monolingual": {"map": 0.5}, "multilingual": {"rank_distance": 9}},
        },
        {
            "step": 5,
            "validation/loss/x-y": 2.0,
            "validation/monolingual/map": 0.5,
            "validation/multilingual/rank_distance": 9,
        },
    ],
    ids=["nested", "flat"],
)
def test_validation_figures_are_found_nested_or_flat(row: dict) -> None:
    assert learning_curves([row]) == {
        "validation loss": {"x-y": [(5, 2.0)]},
        "validation mAP": {"monolingual": [(5, 0.5)]},
        "validation rank distance": {"multilingual": [(5, 9.0)]},
    }
