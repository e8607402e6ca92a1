"""Every option of a recipe and every flag of a command, as JSON: `python -m tests.options`."""

from __future__ import annotations

import argparse
import json
import os
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from unittest import mock

import jsonargparse

import hybatch.cli
from hybatch.training.config import RunConfig


def recipe_options(of: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted name, {default, choices}) of the fields of a dataclass and of those that its fields may hold.

    An option without a default has none; `[]` in a name stands for a place in a list.
    """
    hints = get_type_hints(of)
    for one in fields(of):
        name = prefix + one.name
        parts = list(_parts(hints[one.name]))
        # Where the default is of a class derived from the one that is named, its options are those of the recipe.
        inner = [(_class_of(_default(one), part), listed) for part, listed in parts if is_dataclass(part)]
        option: dict[str, Any] = {"choices": sorted({str(c) for p, _ in parts for c in get_args(p)})}
        default = _default(one)
        if default is not MISSING and not is_dataclass(default):
            option["default"] = json.loads(json.dumps(default))
        yield name, option
        for part, listed in inner:
            yield from recipe_options(part, f"{name}{'[]' if listed else ''}.")


def _class_of(default: Any, named: type) -> type:
    return type(default) if isinstance(default, named) else named


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _parts(hint: Any, listed: bool = False) -> Iterator[tuple[Any, bool]]:
    """The dataclasses and Literals in a type, and whether they stand in a list."""
    if is_dataclass(hint) or get_origin(hint) is Literal:
        yield hint, listed
    elif get_origin(hint) in (Union, types.UnionType, list, dict, tuple):
        for part in get_args(hint):
            yield from _parts(part, listed or get_origin(hint) is list)


class _ParserReachedError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def command_parser(command: str) -> list[argparse.Action]:
    """The arguments of a subcommand; of commands that take a recipe, those that are not of the recipe."""

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _ParserReachedError(parser)

    environment = {name: value for name, value in os.environ.items() if not name.startswith("HYBATCH_")}
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
        mock.patch.object(jsonargparse.ArgumentParser, "parse_args", stop),
        mock.patch.dict(os.environ, environment, clear=True),
    ):
        try:
            hybatch.cli.main([command])
        except _ParserReachedError as reached:
            return list(_own_actions(reached.parser))
    raise AssertionError(f"{command} parsed no arguments")


def _own_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    of_the_recipe = {option.split(".")[0] for option, _ in recipe_options()}
    for action in parser._actions:
        if isinstance(parser, jsonargparse.ArgumentParser) and action.dest.split(".")[0] in of_the_recipe:
            continue
        yield action


def command_flags(command: str) -> dict[str, dict[str, Any]]:
    """Flag or name of an argument -> {default, choices, required} of a subcommand, but for a recipe's options."""
    return dict(_arguments(command_parser(command)))


def _arguments(actions: list[argparse.Action]) -> Iterator[tuple[str, dict[str, Any]]]:
    for action in actions:
        default = action.default if isinstance(action.default, int | float | str | None) else str(action.default)
        choices = [str(choice) for choice in action.choices or []]
        for name in action.option_strings or [action.dest]:
            yield name, {"default": default, "choices": choices, "required": action.required}


def everything() -> dict[str, Any]:
    """What options.json holds."""
    commands = {name: command_flags(name) for name in hybatch.cli.COMMANDS}
    return {"recipe": dict(recipe_options()), "commands": commands}


if __name__ == "__main__":
    print(json.dumps(everything(), indent=1, sort_keys=True))
