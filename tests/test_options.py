"""Recipes and command lines of version 0.1.0 still say what they said: options may be added, none goes or changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.options import command_flags, recipe_options

BEFORE = json.loads((Path(__file__).parent / "written_before" / "options.json").read_text(encoding="utf-8"))


def _assert_as_before(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> None:
    assert before.keys() <= now.keys()
    for name, option in before.items():
        assert set(option["choices"]) <= set(now[name]["choices"]), name
        kept = {key: value for key, value in now[name].items() if key != "choices"}
        assert kept == {key: value for key, value in option.items() if key != "choices"}, name


def test_a_recipe_has_every_option_with_its_default_and_its_choices() -> None:
    now = dict(recipe_options())
    _assert_as_before(BEFORE["recipe"], now)
    required = {name for name, option in now.items() if "default" not in option and not _below_a_new_one(name)}
    assert required == {name for name, option in BEFORE["recipe"].items() if "default" not in option}


@pytest.mark.parametrize("command", BEFORE["commands"])
def test_a_command_has_every_flag_with_its_default_and_its_choices(command: str) -> None:
    now = command_flags(command)
    _assert_as_before(BEFORE["commands"][command], now)
    added = now.keys() - BEFORE["commands"][command].keys()
    assert not [name for name in added if now[name]["required"]]


def _below_a_new_one(name: str) -> bool:
    """Whether an option belongs to one that was not there before, which nobody needs to give."""
    above = name.rpartition(".")[0].removesuffix("[]")
    return bool(above) and above not in BEFORE["recipe"] and f"{above}[]" not in BEFORE["recipe"]
