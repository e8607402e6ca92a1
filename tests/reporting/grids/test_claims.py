"""The claim on data whose answer is known: a true difference, none at all, and one the other way."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hybatch.reporting.grids.claims import ClaimOutcome, claim_outcomes
from tests.reporting.grids.synthetic import Spec, change_questions, core, read_grid, write_records


def _claims(directory: Path, specs: Sequence[Spec], **options: object) -> tuple[ClaimOutcome, ...]:
    return claim_outcomes(read_grid(write_records(directory, specs, **options)))


def _trio(hybrid: float, mono: float = 0.0, cross: float = 0.02, seeds: Sequence[int] = (1, 2)) -> list[Spec]:
    levels = {"hybrid": hybrid, "x-x-mono": mono, "x-y": cross}
    return [
        Spec(sampling=name, alpha=0.5 if name == "hybrid" else None, seed=seed, level=level)
        for name, level in levels.items()
        for seed in seeds
    ]


def _questions(directory: Path, sampling: str, task: str, name: str, seeds: Sequence[int] = (1, 2)) -> np.ndarray:
    folders = [directory / f"{sampling}--mini-xlmr--seed{seed}" / task for seed in seeds]
    return np.mean([np.load(folder / "questions.npz")[name].astype(np.float64) for folder in folders], axis=0)


def test_a_true_difference_is_found_in_every_setting(tmp_path: Path) -> None:
    claims = _claims(tmp_path, _trio(0.05))
    assert [(one.task, one.measure.slug) for one in claims] == [
        (task, slug)
        for task in ("xquad-r", "mlqa-r")
        for slug in ("monolingual", "cross-lingual", "multilingual", "rank-distance")
    ]
    for one in claims:
        expected = -30.0 if one.measure.metric == "rank_distance" else 0.03
        assert one.test is not None
        width = one.test.high - one.test.low
        assert one.test.low - width < expected < one.test.high + width
        assert one.test.low < one.test.difference < one.test.high
        assert one.test.difference == pytest.approx(one.difference, rel=1e-4)
        assert (one.verdict, one.seeds_better, one.seeds_common) == ("better", 2, 2)


def test_the_difference_is_that_of_each_questions_mean_over_seeds(tmp_path: Path) -> None:
    claims = _claims(tmp_path, _trio(0.05))
    for one in claims:
        name = "rank_distance" if one.measure.metric == "rank_distance" else one.measure.setting
        hybrid, rival = (_questions(tmp_path, sampling, one.task, name) for sampling in ("hybrid0.5", "x-y"))
        assert one.test is not None
        assert one.test.difference == pytest.approx((hybrid - rival).mean(), rel=1e-9)


def test_a_difference_the_other_way_is_worse_also_in_rank_distance(tmp_path: Path) -> None:
    claims = _claims(tmp_path, _trio(-0.05))
    assert {one.verdict for one in claims} == {"worse"}
    assert {one.seeds_better for one in claims} == {0}


def test_identical_figures_are_not_distinguishable(tmp_path: Path) -> None:
    write_records(tmp_path, _trio(0.05))
    for seed in (1, 2):
        for task in ("xquad-r", "mlqa-r"):
            target = tmp_path / f"hybrid0.5--mini-xlmr--seed{seed}" / task
            shutil.rmtree(target)
            shutil.copytree(tmp_path / f"x-y--mini-xlmr--seed{seed}" / task, target)
    for one in claim_outcomes(read_grid(tmp_path)):
        assert one.test is not None
        assert (one.test.difference, one.test.low, one.test.high, one.test.p_corrected) == (0, 0, 0, 1)
        assert one.verdict == "not distinguishable"


def test_the_rival_is_the_one_with_the_better_mean(tmp_path: Path) -> None:
    assert {one.rival.label for one in _claims(tmp_path / "cross", _trio(0.05))} == {"X-Y"}
    assert {one.rival.label for one in _claims(tmp_path / "mono", _trio(0.05, mono=0.03))} == {"X-X-mono"}


def test_p_values_are_corrected_for_all_claims_together(tmp_path: Path) -> None:
    claims = _claims(tmp_path, _trio(0.0205, seeds=(1,)), num_questions=30)
    p_values = sorted(one.test.p_value for one in claims if one.test)
    assert len(set(p_values)) > 3
    running, expected = 0.0, []
    for place, p_value in enumerate(p_values):
        running = max(running, (len(p_values) - place) * p_value)
        expected.append(min(1.0, running))
    assert sorted(one.test.p_corrected for one in claims if one.test) == pytest.approx(expected)


def test_questions_without_a_figure_do_not_count(tmp_path: Path) -> None:
    write_records(tmp_path, _trio(0.05))
    for path in tmp_path.glob("*/mlqa-r/questions.npz"):
        values = np.load(path)["cross_lingual"]
        values[:10] = np.nan
        change_questions(path, cross_lingual=values)
    hybrid, rival = (_questions(tmp_path, sampling, "mlqa-r", "cross_lingual") for sampling in ("hybrid0.5", "x-y"))
    found = {(one.task, one.measure.slug): one.test for one in claim_outcomes(read_grid(tmp_path))}
    test = found["mlqa-r", "cross-lingual"]
    assert test is not None
    assert test.difference == pytest.approx((hybrid - rival)[10:].mean(), rel=1e-9)


def test_differences_of_opposite_signs_decide_nothing(tmp_path: Path) -> None:
    write_records(tmp_path, _trio(0.05))
    for path in tmp_path.glob("hybrid*/xquad-r/questions.npz"):  # as where most questions exist in few languages
        change_questions(path, multilingual=np.load(path)["multilingual"] - np.float32(0.1))
    found = {(one.task, one.measure.slug): one for one in claim_outcomes(read_grid(tmp_path))}
    claim = found["xquad-r", "multilingual"]
    assert claim.test is not None
    assert claim.difference > 0 > claim.test.difference
    assert claim.test.p_corrected < 0.01
    assert claim.verdict == "not distinguishable"


def test_without_questions_a_task_is_not_tested_and_not_corrected_for(tmp_path: Path) -> None:
    write_records(tmp_path, _trio(0.05))
    (tmp_path / "hybrid0.5--mini-xlmr--seed2" / "mlqa-r" / "questions.npz").unlink()
    verdicts: dict[str, set[str]] = {}
    for one in claim_outcomes(read_grid(tmp_path)):
        verdicts.setdefault(one.task, set()).add(one.verdict)
        if one.test:
            assert one.test.p_corrected == pytest.approx(4 * one.test.p_value)
    assert verdicts == {"xquad-r": {"better"}, "mlqa-r": {"not tested"}}


def test_a_claim_takes_all_three_samplings_of_a_start(tmp_path: Path) -> None:
    specs = [
        one for one in core(("mini-xlmr", "mini-labse"), (1,)) if (one.start, one.sampling) != ("mini-xlmr", "x-y")
    ]
    unseen = [Spec(sampling="x-y", unseen=("cc",))]
    assert {one.group.start for one in _claims(tmp_path, [*specs, *unseen])} == {"mini-labse"}
