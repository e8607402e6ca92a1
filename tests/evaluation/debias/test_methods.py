"""Each method against its definition in numpy float64, over random means and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.evaluation.debias.fit import debiased_encoder
from hybatch.evaluation.debias.lir import language_directions
from hybatch.evaluation.debias.method import LanguageMeans, MethodOptions
from hybatch.evaluation.debias.registry import METHODS
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, LanguageOffsets
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.folder.debiased import Debiased
from hybatch.models.head import Dense
from hybatch.models.language_offsets import ROLES

WIDTH = 12


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _setting(seed: int, languages: int) -> tuple[LanguageMeans, np.ndarray]:
    """Means of unit vectors of either role, and float32 vectors [7, H] of unit length."""
    rng = np.random.default_rng(seed)
    names = tuple(f"l{number}" for number in range(languages))
    of: Any = {role: _unit(rng.standard_normal((languages, 5, WIDTH))).mean(axis=1) for role in ROLES}
    return LanguageMeans(names, of), _unit(rng.standard_normal((7, WIDTH))).astype(np.float32)


def _fitted(name: str, means: LanguageMeans, **options: Any) -> Any:
    method = METHODS[name]
    return method.fit(means, method.settle(means.languages, MethodOptions(**options)))


seeds = st.integers(0, 2**31)
sizes = st.integers(2, 6)


@given(seeds, sizes, st.booleans())
def test_centring_takes_the_mean_of_language_and_role_and_may_put_the_mean_of_all_back(
    seed: int, languages: int, put_back: bool
) -> None:
    means, rows_NH = _setting(seed, languages)
    offsets = _fitted("centre", means, put_back=put_back)
    for role in ROLES:
        for place, language in enumerate(means.languages):
            common = means.of[role].sum(axis=0) / languages if put_back else 0
            expected = _unit(rows_NH.astype(np.float64) - means.of[role][place] + common)
            np.testing.assert_allclose(offsets.moved(rows_NH, language, role), expected, atol=1e-6)


@given(seeds, sizes)
def test_shift_brings_passages_to_the_pivot_and_leaves_queries_and_the_pivot_bit_for_bit(
    seed: int, languages: int
) -> None:
    means, rows_NH = _setting(seed, languages)
    offsets = _fitted("shift", means, pivot="l1")
    for place, language in enumerate(means.languages):
        np.testing.assert_array_equal(offsets.moved(rows_NH, language, "query"), rows_NH)
        expected = _unit(rows_NH.astype(np.float64) + means.of["passage"][1] - means.of["passage"][place])
        np.testing.assert_allclose(offsets.moved(rows_NH, language, "passage"), expected, atol=1e-6)
    np.testing.assert_array_equal(offsets.moved(rows_NH, "l1", "passage"), rows_NH)


@given(seeds, sizes)
def test_lir_leaves_nothing_of_what_tells_the_languages_apart_and_all_that_is_at_right_angles(
    seed: int, languages: int
) -> None:
    means, rows_NH = _setting(seed, languages)
    layer = _fitted("lir", means)
    assert layer.linear.bias is None
    after = layer(torch.from_numpy(rows_NH)).detach().double().numpy()
    places = sum(mean_LH - mean_LH.mean(axis=0) for mean_LH in means.of.values()) / len(ROLES)
    np.testing.assert_allclose(after @ places.T, 0, atol=1e-6)
    beside = np.linalg.lstsq(places.T, rows_NH.astype(np.float64).T, rcond=None)[0]
    np.testing.assert_allclose(after, rows_NH - (places.T @ beside).T, atol=1e-6)


@given(seeds, st.integers(3, 6))
def test_the_leading_direction_tells_the_languages_apart_better_than_any_other(seed: int, languages: int) -> None:
    means, _ = _setting(seed, languages)
    places = sum(mean_LH - mean_LH.mean(axis=0) for mean_LH in means.of.values()) / len(ROLES)
    directions = language_directions(means)
    np.testing.assert_allclose(directions @ directions.T, np.eye(languages - 1), atol=1e-9)
    values, vectors = np.linalg.eigh(places.T @ places)
    np.testing.assert_allclose(np.abs(directions[0] @ vectors[:, -1]), 1, atol=1e-6)
    one = _fitted("lir", means, directions=1)
    np.testing.assert_allclose(
        one.linear.weight.detach().numpy(), np.eye(WIDTH) - np.outer(vectors[:, -1], vectors[:, -1]), atol=1e-5
    )
    assert values[-1] >= np.square(places @ np.eye(WIDTH)[0]).sum() - 1e-12


@pytest.mark.parametrize("name", list(METHODS))
def test_a_method_moves_by_language_where_it_says_so(name: str) -> None:
    means, _ = _setting(0, 3)
    kind = LanguageOffsets if METHODS[name].by_language else Dense
    options = {"pivot": "l0"} if "pivot" in METHODS[name].options else {}
    assert isinstance(_fitted(name, means, **options), kind)


@pytest.mark.parametrize("name", list(METHODS))
def test_vectors_that_can_be_cut_short_stay_so_unless_a_layer_mixes_their_dimensions(name: str) -> None:
    means, _ = _setting(0, 3)
    method = METHODS[name]
    options = method.settle(means.languages, MethodOptions(**({"pivot": "l0"} if "pivot" in method.options else {})))
    fresh = FreshBackboneConfig(architecture="bert", width=WIDTH, layers=1, heads=2, intermediate_size=16)
    with torch.random.fork_rng(devices=[]):
        backbone = fresh_backbone(fresh, vocabulary_size=300, max_positions=32, attn_implementation=None)
    encoder = Encoder(EncoderConfig(backbone="tiny", pooling="mean", head="none"), backbone, None)  # type: ignore[arg-type]
    encoder.dimensions = (WIDTH, 4)
    without = debiased_encoder(encoder, means, method, options, Debiased(record={}, text_keys=np.empty(0)))
    assert without.dimensions == ((WIDTH, 4) if method.by_language else ())


def test_means_that_are_equal_have_no_direction_to_take_out() -> None:
    row = _unit(np.arange(1.0, WIDTH + 1))
    means = LanguageMeans(("a", "b", "c"), {role: np.stack([row, row, -row]) for role in ROLES})
    assert len(language_directions(means)) == 1
    with pytest.raises(UserError, match="--directions 2: the means of a b c differ in only 1"):
        _fitted("lir", means, directions=2)


def test_more_directions_than_languages_give_are_refused_before_anything_is_encoded() -> None:
    with pytest.raises(UserError, match="--directions 3: the means of 3 languages differ in 2 directions at most"):
        METHODS["lir"].settle(["a", "b", "c"], MethodOptions(directions=3))


def test_a_pivot_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(UserError, match=r"--pivot \(by default en\): not among the languages that are fitted: de fr"):
        METHODS["shift"].settle(["de", "fr"], MethodOptions())
    with pytest.raises(UserError, match="--pivot it: not among"):
        METHODS["shift"].settle(["de", "en"], MethodOptions(pivot="it"))
