"""Options that cannot work are refused by name before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.sampling.config import Phase, SamplingConfig, ShareSchedule, training_languages


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("kind", "x-z"),
        ("batch_size", 0),
        ("batch_size", -3),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("alpha", 1.01),
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("alpha", "half"),
        ("share", 2),
        ("share", float("inf")),
        ("dataset_exponent", -1),
        ("dataset_exponent", float("inf")),
        ("language_exponent", None),
        ("languages", "en"),
        ("languages", []),
        ("exclude_languages", "el"),
    ],
)
def test_a_bad_value_is_refused_with_the_name_of_its_option(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"sampling\.{option}\b"):
        SamplingConfig(**{option: value})


@pytest.mark.parametrize(
    ("option", "schedule"),
    [
        ("start", {"start": -1, "end": 0}),
        ("end", {"start": 0, "end": 1.5}),
        ("shape", {"start": 0, "end": 1, "shape": "step"}),
    ],
)
def test_a_bad_schedule_is_refused_with_the_name_of_its_option(option: str, schedule: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"sampling\.alpha\.{option}\b"):
        SamplingConfig(alpha=ShareSchedule(**schedule))
    with pytest.raises(UserError, match=rf"sampling\.mixture\.x-y\.{option}\b"):
        SamplingConfig(mixture={"x-y": ShareSchedule(**schedule)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixture": {}}, r"sampling\.mixture is empty"),
        ({"mixture": {"x-z": 1}}, r"sampling\.mixture is 'x-z': it must be one of x-x-mono, .*x-en"),
        ({"mixture": {"hybrid": 1}}, r"sampling\.mixture is 'hybrid'"),
        ({"mixture": {"x-y": 0.4, "x-en": 0.5}}, r"sampling\.mixture: the shares at the first step sum to 0\.9"),
        (
            {"mixture": {"x-y": 0.5, "x-en": ShareSchedule(start=0.5, end=0.25)}},
            r"sampling\.mixture: the shares at the last step sum to 0\.75",
        ),
        (
            {
                "mixture": {
                    "x-y": ShareSchedule(start=0, end=1),
                    "x-en": ShareSchedule(start=1, end=0, shape="cosine"),
                }
            },
            r"sampling\.mixture: .*one shape",
        ),
        ({"mixture": {"x-y": 1}, "alpha": 0.25}, r"sampling\.alpha and sampling\.mixture are both given"),
        ({"mixture": {"x-y": 1}, "kind": "x-y"}, r"sampling\.mixture goes with sampling\.kind hybrid, but that is x-y"),
        ({"kind": "sequential", "phases": []}, r"sampling\.phases is empty"),
        (
            {"kind": "sequential", "phases": [Phase(kind="x-y", share=0.5)]},
            r"sampling\.phases: the shares sum to 0\.5",
        ),
        ({"kind": "sequential", "phases": [Phase(kind="x-y", share=1)], "share": 0.1}, "both given"),
        ({"phases": [Phase(kind="x-y", share=1)]}, r"sampling\.phases goes with sampling\.kind sequential"),
        ({"languages": [False, "en"]}, r"sampling\.languages\.0 is false: .* put the word in quotes"),
    ],
)
def test_a_mixture_or_phases_that_do_not_add_up_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SamplingConfig(**options)


@pytest.mark.parametrize(("kind", "share"), [("x-z", 1), ("x-y", 2)])
def test_a_bad_phase_is_refused(kind: str, share: float) -> None:
    with pytest.raises(UserError, match=r"sampling\.phases\.1\.(kind|share) is"):
        SamplingConfig(kind="sequential", phases=[Phase(kind="x-x-mono", share=0), Phase(kind=kind, share=share)])


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.25])
def test_shares_take_their_ends_and_whole_numbers(value: float) -> None:
    config = SamplingConfig(alpha=value, share=value)
    assert (config.alpha, config.share) == (value, value)


def test_without_a_word_all_languages_are_trained_on_in_alphabetical_order() -> None:
    assert training_languages(SamplingConfig(), ["zh", "en", "de", "en"]) == ("de", "en", "zh")


def test_languages_and_exclusions_combine() -> None:
    config = SamplingConfig(languages=["vi", "en", "de"], exclude_languages=["vi"])
    assert training_languages(config, ["de", "el", "en", "vi"]) == ("de", "en")


@pytest.mark.parametrize("option", ["languages", "exclude_languages"])
def test_an_unknown_language_is_named_with_those_that_exist(option: str) -> None:
    with pytest.raises(UserError, match=rf"sampling\.{option} names xx, .*there are de, en"):
        training_languages(SamplingConfig(**{option: ["en", "xx"]}), ["en", "de"])


def test_excluding_every_language_is_refused() -> None:
    with pytest.raises(UserError, match=r"sampling\.exclude_languages"):
        training_languages(SamplingConfig(exclude_languages=["de", "en"]), ["en", "de"])
