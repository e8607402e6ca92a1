"""Every option refuses, by its name, what it cannot be: null, numbers out of its range, what is no number, text."""

from __future__ import annotations

import argparse
import math
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonargparse
import pytest

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.losses import LOSSES
from hybatch.models import EncoderConfig
from hybatch.models.config import FreshBackboneConfig
from hybatch.options import check_options, check_value, limits, limits_of, number_of
from hybatch.sampling import SamplingConfig, ShareSchedule
from hybatch.sampling.config import Phase
from hybatch.training.config import RunConfig, TaskConfig, instantiate, run_parser
from tests.options import command_parser, recipe_options

NEEDED: dict[type, dict[str, Any]] = {
    RunConfig: {
        "output_dir": "x",
        "corpora": [CorpusConfig(path="embedded")],
        "model": EncoderConfig(backbone="labse"),
    },
    CorpusConfig: {"path": "embedded"},
    ShareSchedule: {"start": 0.5, "end": 0.5},
    Phase: {"kind": "x-y", "share": 0.5},
    TaskConfig: {"task": "embedded"},
}
"""What must be given to make an object of these classes."""


def _sections(of: type = RunConfig, name: str = "") -> Iterator[tuple[type, str]]:
    """Every dataclass of options with its name before the dot; of sections that derive from one, each kind."""
    for kind in LOSSES.values() if of is get_type_hints(RunConfig)["loss"] else [of]:
        yield kind, name
        for one, hint in get_type_hints(kind).items():
            for part in _parts(hint):
                if is_dataclass(part):
                    yield from _sections(part, f"{name}.{one}" if name else one)


def _parts(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    if get_origin(hint) in (Union, types.UnionType, list, tuple, dict):
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield hint


OPTIONS = [(of, one, f"{name}.{one.name}".lstrip(".")) for of, name in _sections() for one in fields(of)]
NUMERIC = [option for option in OPTIONS if {int, float} & set(_parts(get_type_hints(option[0])[option[1].name]))]
by_name = {"ids": lambda option: option if isinstance(option, str) else ""}


def test_the_options_are_those_of_a_recipe() -> None:
    assert {name for _, _, name in OPTIONS} == {name.replace("[]", "") for name, _ in recipe_options()}


@pytest.mark.parametrize(("of", "one", "name"), NUMERIC, **by_name)
def test_the_range_of_a_number_is_declared_and_has_two_ends(of: type, one: Field[Any], name: str) -> None:
    declared = limits_of(one.metadata)
    assert declared is not None
    assert math.isfinite(max(declared.ge, declared.gt))
    assert math.isfinite(min(declared.le, declared.lt))


def _refusal(of: type, one: Field[Any], name: str, value: Any) -> str:
    """What is said to an option of this value; nothing where it is taken."""
    section = object.__new__(of)
    for other in fields(of):
        default = other.default_factory() if other.default_factory is not MISSING else other.default
        setattr(section, other.name, NEEDED.get(of, {}).get(other.name) if default is MISSING else default)
    setattr(section, one.name, value)
    try:
        check_options(section, name.rpartition(".")[0])
    except UserError as refused:
        return str(refused)
    return ""


NO_NUMBERS = (
    -1,
    -1e-9,
    math.nan,
    math.inf,
    -math.inf,
    1e99,
    10**23,
    10**400,
    -(10**5000),
    "text",
    "",
    True,
    {},
    object,
)


@pytest.mark.parametrize(("of", "one", "name"), NUMERIC, **by_name)
def test_what_no_number_of_a_run_can_be_is_refused_by_name(of: type, one: Field[Any], name: str) -> None:
    """Found by checking the class alone; that the classes check themselves is tested below."""
    hint = get_type_hints(of)[one.name]
    for value in NO_NUMBERS:
        if value == {} and get_origin(hint) in (Union, types.UnionType) and any(map(get_origin, get_args(hint))):
            continue  # a mapping of numbers may be empty as far as its type goes
        assert _refusal(of, one, name, value).startswith(f"{name} is "), value


@pytest.mark.parametrize(("of", "one", "name"), OPTIONS, **by_name)
def test_null_is_refused_by_name_where_the_type_has_none(of: type, one: Field[Any], name: str) -> None:
    may_be_null = type(None) in get_args(get_type_hints(of)[one.name])
    refusal = _refusal(of, one, name, None)
    assert refusal == "" if may_be_null else refusal.startswith(f"{name} is null: it must be ")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SamplingConfig(batch_size=-1), "sampling.batch_size"),
        (lambda: SamplingConfig(alpha=ShareSchedule(start=0, end=math.nan)), "sampling.alpha.end"),
        (lambda: SamplingConfig(mixture={"x-y": ShareSchedule(start=2, end=1)}), "sampling.mixture.x-y.start"),
        (lambda: EncoderConfig(query_max_length=2), "model.query_max_length"),
        (lambda: CorpusConfig(path=None), "corpora.path"),  # type: ignore[arg-type]
        (lambda: CorpusConfig(path="x", languages=["de", False]), "corpora.languages.1"),  # type: ignore[list-item]
        *((lambda of=of: of(hard_negatives=-1), "loss.hard_negatives") for of in LOSSES.values()),
    ],
)
def test_a_section_checks_itself_where_it_is_made(make: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"^{name} is "):
        make()


def _recipe(option: str) -> list[str]:
    recipe = {"--output_dir": "x", "--corpora": "[{path: embedded}]", "--model.fresh.layers": "1"}
    if option.startswith("model.fresh"):
        del recipe["--model.fresh.layers"]
    return [part for pair in recipe.items() for part in pair]


@pytest.fixture(scope="module")
def parser() -> jsonargparse.ArgumentParser:
    return run_parser("hybatch", "", [])


def _refusal_on_the_command_line(parser: jsonargparse.ArgumentParser, name: str, value: str) -> str:
    try:
        instantiate(parser, [*_recipe(name), f"--{name}", value])
    except UserError as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize(
    "name",
    [name for _, _, name in NUMERIC if not {"corpora", "tasks"} & {*name.split(".")} and name.count(".") < 3],
)
def test_on_the_command_line_a_number_too_great_is_refused_by_name(
    name: str, parser: jsonargparse.ArgumentParser
) -> None:
    assert name.rpartition(".")[2] in _refusal_on_the_command_line(parser, name, "1" + 23 * "0")


@pytest.mark.parametrize("name", [name for _, _, name in OPTIONS if name.startswith("model.fresh.")])
def test_on_the_command_line_null_is_refused_below_a_section_that_may_be_null(
    name: str, parser: jsonargparse.ArgumentParser
) -> None:
    hint = get_type_hints(FreshBackboneConfig)[name.rpartition(".")[2]]
    assert ("is null" in _refusal_on_the_command_line(parser, name, "null")) != (type(None) in get_args(hint))


@pytest.mark.parametrize("value", [".nan", ".inf", "1e99", "-1", "true", "[]", "9" * 400, "9" * 5000])
@pytest.mark.parametrize("name", ["training.weight_decay", "training.steps", "model.fresh.width", "loss.temperature"])
def test_no_value_on_the_command_line_ends_in_a_traceback(
    name: str, value: str, parser: jsonargparse.ArgumentParser
) -> None:
    refusal = _refusal_on_the_command_line(parser, name, value)
    # Where the parser itself fails on a number of hundreds of digits it does not say of which option.
    assert name.rpartition(".")[2] in refusal or (len(value) > 100 and refusal)


def _is_numeric(action: argparse.Action) -> bool:
    number = number_of("--x", int)
    same = getattr(action.type, "__qualname__", "") == number.__qualname__  # those without a default, too
    return same or (isinstance(action.default, int | float) and not isinstance(action.default, bool))


FLAGS = [
    (command, action)
    for command in ("batches", "plan", "evaluate", "mine", "mteb", "report", "compare")
    for action in command_parser(command)
    if _is_numeric(action)
]


@pytest.mark.parametrize(("command", "action"), FLAGS, ids=lambda part: getattr(part, "dest", part))
@pytest.mark.parametrize(
    "text", ["null", "-2000", "nan", "inf", "1e99", "1" + 23 * "0", "9" * 5000, "text", "", "true"]
)
def test_a_number_that_a_command_cannot_do_with_is_refused_by_the_name_of_its_flag(
    command: str, action: Any, text: str
) -> None:
    with pytest.raises(UserError, match=f"^{action.option_strings[0]} is .*: it must be a (whole )?number "):
        action.type(text)


@dataclass
class Made:
    """Of every type that an option can have."""

    number: float = field(default=1.0, metadata=limits(gt=0, lt=2))
    words: list[str] = field(default_factory=list)
    pair: tuple[int, int] = field(default=(1, 2), metadata=limits(ge=0, le=9))
    named: dict[str, int] | None = field(default=None, metadata=limits(ge=0, le=9))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Made(number=2), r"^x\.number is 2: it must be a number greater than 0 and less than 2$"),
        (Made(words=["a", 3]), r"^x\.words\.1 is 3: it must be a text$"),
        (Made(words=[True]), r"^x\.words\.0 is true: it must be a text; .* put the word in quotes$"),
        (Made(words="ab"), r"^x\.words is 'ab': it must be a list, each a text$"),
        (Made(pair=(1, 10)), r"^x\.pair\.1 is 10: it must be a whole number from 0 to 9$"),
        (Made(pair=(1,)), r"^x\.pair is \(1,\): it must be a list of 2, each a whole number from 0 to 9$"),
        (Made(named={"a": 1.5}), r"^x\.named\.a is 1\.5: it must be a whole number from 0 to 9$"),
        (Made(named={3: 1}), r"^x\.named is 3: it must be a text$"),
        (Made(named=3), r"^x\.named is 3: it must be a mapping to a whole number from 0 to 9 or null$"),
    ],
)
def test_a_message_names_the_item_and_what_it_may_be(made: Made, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_options(made, "x")


def test_what_is_right_is_left_as_it_is() -> None:
    check_options(Made(number=1, words=["no"], pair=[0, 9], named={"a": 9}), "")
    check_value("x", 0, float, limits_of(limits(ge=0, le=0)))
    assert number_of("--x", int, ge=1, le=3)("3") == 3
    assert number_of("--x", float, ge=0, lt=1)("1e-3") == 1e-3


def test_a_message_is_short_whatever_was_given(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        check_value("x", "text" * 1000, int)
    assert len(str(refused.value)) < 200
