"""The configuration: defaults, files, command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.losses import DEFAULT_LOSS
from hybatch.models import EncoderConfig, FreshBackboneConfig
from hybatch.sampling import COMPOSITIONS, KINDS, SamplingConfig, ShareSchedule
from hybatch.training.config import RunConfig, TrainingConfig, ValidationConfig, load_run_config
from tests.training.small_run import write_config


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = load_run_config(
        [
            "--config",
            str(write_config(tmp_path)),
            "--training.steps",
            "7",
            "--sampling.alpha",
            '{"start":0.9,"end":0.1}',
        ]
    )
    assert config.training.steps == 7
    assert config.sampling.alpha == ShareSchedule(start=0.9, end=0.1)
    assert config.model.fresh is not None
    assert config.model.fresh.width == 32


def test_the_resolved_configuration_gives_the_same_run_again(tmp_path: Path) -> None:
    config = load_run_config(["--config", str(write_config(tmp_path)), "--training.betas", "[0.8, 0.9]"])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(config.as_dict(), sort_keys=False), encoding="utf-8")
    again = load_run_config(["--config", str(resolved)])
    assert again == config
    assert again.as_dict() == config.as_dict()


@pytest.mark.parametrize(
    "options",
    [
        ["--sampling.mixture", "{x-y: {start: 0.25, end: 1}, x-en: {start: 0.75, end: 0}}"],
        ["--sampling.mixture.x-y", "0.25", "--sampling.mixture.en-x", "0.75"],
        ["--sampling.kind", "sequential", "--sampling.phases", "[{kind: x-y, share: 0.25}, {kind: x-x, share: 0.75}]"],
        ["--validation.kinds", "[x-en, x-x-mono]"],
    ],
)
def test_mixtures_phases_and_kinds_of_validation_come_through_a_file(tmp_path: Path, options: list[str]) -> None:
    config = load_run_config(["--config", str(write_config(tmp_path)), *options])
    assert config != load_run_config(["--config", str(tmp_path / "config.yaml")])
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(yaml.safe_dump(config.as_dict(), sort_keys=False), encoding="utf-8")
    assert load_run_config(["--config", str(resolved)]) == config


@pytest.mark.parametrize(
    "options",
    [
        ["--sampling.kind", "x-z"],
        ["--sampling.mixture", "{x-z: 1}"],
        ["--sampling.kind", "sequential", "--sampling.phases", "[{kind: x-z, share: 1}]"],
        ["--validation.kinds", "[x-z]"],
    ],
)
def test_an_unknown_kind_is_refused_and_the_known_ones_are_listed(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        load_run_config(["--config", str(write_config(tmp_path)), *options])
    assert {"x-z", *KINDS} <= set(re.findall(r"[\w-]+", str(refused.value)))


@pytest.mark.parametrize(("kinds", "message"), [([], "kinds is empty"), (["x-y", "x-en", "x-y"], "a kind twice")])
def test_kinds_of_validation_that_measure_nothing_or_twice_are_refused(kinds: list[str], message: str) -> None:
    with pytest.raises(UserError, match=rf"validation\.{message}|validation\.kinds names {message}"):
        ValidationConfig(kinds=kinds)


def test_held_out_data_have_no_weight() -> None:
    with pytest.raises(UserError, match=r"validation\.corpora: weight is of data sets to train on"):
        ValidationConfig(corpora=[CorpusConfig(path="embedded", weight=2)])


def test_weights_of_a_recipe_are_read_and_a_negative_one_is_refused(tmp_path: Path) -> None:
    options = ["--config", str(write_config(tmp_path)), "--sampling.pairs", "{en-*: 2, '*-zh': 0.5}"]
    config = load_run_config([*options, "--corpora", "[{path: embedded, weight: 2}]"])
    assert config.sampling.pairs == {"en-*": 2, "*-zh": 0.5}
    assert config.corpora[0].weight == 2
    with pytest.raises(UserError, match="weight"):
        load_run_config([*options, "--corpora", "[{path: embedded, weight: -1}]"])


def test_warm_up_is_given_in_steps_or_as_a_share() -> None:
    assert TrainingConfig(steps=200).warmup() == 20
    assert TrainingConfig(steps=200, warmup_share=0.5).warmup() == 100
    assert TrainingConfig(steps=200, warmup_steps=3).warmup() == 3


@pytest.mark.parametrize(
    "options",
    [{"chunk_size": 0}, {"betas": (0.9, 1.0)}, {"warmup_steps": 2000}, {"warmup_share": 1.5}, {"keep_checkpoints": 0}],
)
def test_values_out_of_range_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"training.{next(iter(options))}"):
        TrainingConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sampling.alpha", "{start: 1, end: 2}"], "sampling.alpha.end is 2.0: it must be a number from 0 to 1"),
        (["--seed", str(1 << 63)], "seed is 9223372036854775808: it must be a whole number of at least 0 and less"),
    ],
)
def test_a_value_that_the_parser_lets_pass_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_run_config(["--config", str(write_config(tmp_path)), *options])


@pytest.mark.parametrize(
    ("section", "message"), [("", "section loss is empty"), (" [1, 2]", r"section loss is \[1, 2\]")]
)
def test_a_section_without_options_is_refused(tmp_path: Path, section: str, message: str) -> None:
    path = write_config(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("loss:\n  temperature: 0.05", f"loss:{section}"))
    with pytest.raises(UserError, match=f"{message}: give it options"):
        load_run_config(["--config", str(path)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--training.steps", "text"], "training.steps is 'text': it must be a whole number from 1 to 10,000,000"),
        (["--model.fresh.width", "null"], "model.fresh.width is null: it must be a whole number from 1 to 100,000"),
        (["--model.fresh.width", "text"], "model.fresh.width is 'text': it must be a whole number from 1 to 100,000"),
        (
            ["--sampling.alpha", "text"],
            r"sampling.alpha is 'text': it must be a number from 0 to 1 or \{start, end, sh",
        ),
        (["--training.trackers", "[yes]"], "training.trackers is true: it must be a list, each a text; .* in quotes"),
        (["--loss.gather", "some"], "loss.gather is 'some': it must be one of all, ring"),
    ],
)
def test_a_refusal_of_the_parser_is_one_line_that_says_what_is_allowed(
    options: list[str], message: str, tmp_path: Path
) -> None:
    path = write_config(tmp_path)
    with pytest.raises(UserError, match=f"^{message}") as refused:
        load_run_config(["--config", str(path), *options])
    assert str(refused.value).endswith(f"(read from the command line and {path})")
    assert "\n" not in str(refused.value)


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        load_run_config(["--help"])
    assert end.value.code == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert "--training.chunk_size CHUNK_SIZE Texts that a process encodes at once" in help_text
    assert "--sampling.kind {" + ",".join([*KINDS, *COMPOSITIONS]) + "}" in help_text
    for entry in (KINDS | COMPOSITIONS).values():
        assert f"{entry.name}: {entry.summary}" in help_text


@pytest.mark.parametrize(("share", "steps", "step"), [(0.0, 40, 1), (0.5, 40, 21), (0.5, 41, 22), (0.99, 10, 10)])
def test_a_share_of_the_steps_does_not_choose_but_the_last_always_does(
    share: float, steps: int, step: int, tmp_path: Path
) -> None:
    options = ["--validation.select_after_share", str(share), "--training.steps", str(steps)]
    assert load_run_config(["--config", str(write_config(tmp_path)), *options]).select_from_step() == step


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_to_choose_from_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"validation\.select_after_share"):
        ValidationConfig(select_after_share=share)


def test_a_batch_in_which_no_query_has_a_negative_is_refused() -> None:
    model = EncoderConfig(fresh=FreshBackboneConfig())
    parts: dict[str, Any] = {"output_dir": "run", "corpora": [CorpusConfig(path="embedded")], "model": model}
    with pytest.raises(UserError, match=r"batch_size is 1 and loss\.hard_negatives is 0: .*raise one of them"):
        RunConfig(**parts, sampling=SamplingConfig(batch_size=1))
    RunConfig(**parts, sampling=SamplingConfig(batch_size=1), loss=DEFAULT_LOSS(hard_negatives=1))
    RunConfig(**parts, sampling=SamplingConfig(batch_size=2))
