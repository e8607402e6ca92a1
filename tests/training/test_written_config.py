"""A configuration that an earlier version wrote says of later options that they have their defaults."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.models import EncoderConfig
from hybatch.models.config import FreshBackboneConfig
from hybatch.sampling import Phase, SamplingConfig, ShareSchedule
from hybatch.training.config import RunConfig, TrainingConfig, ValidationConfig, load_run_config
from hybatch.training.run.run_folder import RunFolder, claimed
from hybatch.training.written_config import with_defaults
from tests.training.small_run import write_config

RUN = RunConfig(
    output_dir="run",
    corpora=[CorpusConfig(path="a", languages=["de", "en"]), CorpusConfig(path="b", columns={"id": "key"})],
    model=EncoderConfig(fresh=FreshBackboneConfig(width=32)),
    sampling=SamplingConfig(mixture={"x-y": ShareSchedule(start=1, end=0.5), "x-en": ShareSchedule(start=0, end=0.5)}),
    training=TrainingConfig(steps=7),
    validation=ValidationConfig(corpora=[CorpusConfig(path="c")], kinds=["x-en"]),
)
PHASES = RunConfig(
    output_dir="run",
    corpora=[CorpusConfig(path="a")],
    model=EncoderConfig(backbone="xlm-r"),
    sampling=SamplingConfig(kind="sequential", phases=[Phase(kind="x-x", share=1.0)]),
)


def _at_default(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a configuration options that are not required stand at their defaults."""
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _at_default(item, (*path, key))
    elif is_dataclass(value):
        for one in fields(value):
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if default is not MISSING and getattr(value, one.name) == default:
                yield (*path, one.name)
            yield from _at_default(getattr(value, one.name), (*path, one.name))


def _without(plain: Any, path: tuple[Any, ...]) -> Any:
    shorter = copy.deepcopy(plain)
    inner = shorter
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return shorter


@pytest.mark.parametrize("config", [RUN, PHASES])
def test_any_option_at_its_default_may_be_missing(config: RunConfig) -> None:
    written = config.as_dict()
    assert with_defaults(written) == written
    paths = list(_at_default(config))
    assert len(paths) > 40
    for path in paths:
        assert with_defaults(_without(written, path)) == written, path


def test_what_has_no_default_stays_missing_and_what_is_unknown_stays() -> None:
    written = RUN.as_dict()
    assert "path" not in with_defaults(_without(written, ("corpora", 1, "path")))["corpora"][1]
    older = _without(written, ("model", "fresh", "lowercase"))
    older["model"]["fresh"]["colour"] = "blue"
    assert with_defaults(older)["model"]["fresh"] == written["model"]["fresh"] | {"colour": "blue"}


@pytest.mark.parametrize("content", [None, [], "text", 7])
def test_what_is_no_configuration_is_given_back(content: Any) -> None:
    assert with_defaults(content) == content


def _written_without(path: Path, *options: str) -> RunConfig:
    """A folder with a run whose config.yaml lacks options that the present version has."""
    config = load_run_config(["--config", str(path)])
    folder = RunFolder(config)
    folder.directory.mkdir()
    (folder.directory / "metrics.jsonl").touch()
    plain = config.as_dict()
    for option in options:
        plain = _without(plain, tuple(option.split(".")))
    folder.config.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return config


def test_a_run_goes_on_after_options_were_added(tmp_path: Path) -> None:
    config = _written_without(write_config(tmp_path), "sampling.mixture", "sampling.phases", "validation.kinds", "loss")
    with claimed(RunFolder(config), config, print):
        written = yaml.safe_load(RunFolder(config).config.read_text(encoding="utf-8"))
    assert written == config.as_dict()


def test_a_later_option_at_another_value_than_its_default_is_another_run(tmp_path: Path) -> None:
    _written_without(write_config(tmp_path), "sampling.mixture", "validation.kinds", "loss")
    options = ["--loss.temperature", "0.2", "--sampling.mixture", "{x-y: 1}", "--validation.kinds", "[x-en]"]
    config = load_run_config(["--config", str(tmp_path / "config.yaml"), *options])
    with pytest.raises(UserError) as refused, claimed(RunFolder(config), config, print):
        raise AssertionError
    assert "loss.temperature: was 0.05, now 0.2" in str(refused.value)
    assert "sampling.mixture: was None, now 'nothing'" in str(refused.value)
    assert "sampling.mixture.x-y: was 'nothing', now 1.0" in str(refused.value)
    assert "validation.kinds.0: was 'nothing', now 'x-en'" in str(refused.value)
