"""What the launcher's environment may say."""

from __future__ import annotations

import pytest

from hybatch.errors import UserError
from hybatch.processes import launched_size

WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)


def _set(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "", "RANK": "", "LOCAL_RANK": ""},
        {"WORLD_SIZE": "1", "RANK": "0"},  # as Kubeflow has it for a single pod
        {"RANK": "3"},
        {"LOCAL_RANK": "-1"},
    ],
)
def test_without_several_processes_or_a_place_there_is_one(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, variables)
    assert launched_size(by_place=True) == 1


def test_a_whole_environment_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, WHOLE)
    assert launched_size(by_place=True) == launched_size() == 2


@pytest.mark.parametrize("missing", list(WHOLE))
def test_a_part_of_an_environment_is_refused_with_what_is_missing(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, WHOLE)
    monkeypatch.delenv(missing)
    with pytest.raises(UserError, match=rf"but {missing} is not set: start the processes with accelerate launch"):
        launched_size(by_place=True)


def test_who_asks_for_no_place_takes_one_process_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {name: value for name, value in WHOLE.items() if name != "LOCAL_RANK"})  # Kubeflow, of two pods
    assert launched_size() == 2


def test_a_place_that_is_left_over_alone_concerns_only_who_would_form_a_group_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert launched_size() == 1
    with pytest.raises(UserError, match="LOCAL_RANK is 0, but WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT are"):
        launched_size(by_place=True)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WORLD_SIZE", "two", "WORLD_SIZE is 'two'"),
        ("WORLD_SIZE", "0", "WORLD_SIZE is '0'"),
        ("RANK", "2", "RANK is 2, .*no process of so many"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, WHOLE | {name: value})
    with pytest.raises(UserError, match=message):
        launched_size(by_place=True)
