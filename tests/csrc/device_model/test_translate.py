"""The translation leaves the kernels what they are, and refuses what it does not know."""

from __future__ import annotations

import re

import pytest

from tests.csrc.device_model.build import REPOSITORY
from tests.csrc.device_model.translate import (
    INSTRUCTIONS,
    TranslationError,
    assembly_call,
    is_of_the_device,
    translate,
)

CSRC = REPOSITORY / "csrc"
SOURCES = {path.relative_to(CSRC).as_posix(): path.read_text() for path in CSRC.rglob("*") if is_of_the_device(path)}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_file_of_csrc_is_translated_line_by_line(name: str) -> None:
    before, after = SOURCES[name].split("\n"), translate(name, SOURCES[name]).split("\n")
    assert len(before) == len(after)
    unexplained = [pair for pair in zip(before, after, strict=True) if not is_explained(*pair)]
    assert unexplained == []


def is_explained(before: str, after: str) -> bool:
    """The line is as it was, calls the model, or is a further line of a statement that does."""
    ends_a_launch = after == before.removesuffix(";") + "; });"
    was_assembly = re.fullmatch(r"[\s;]*", after) is not None
    return before == after or "::device_model::" in after or ends_a_launch or was_assembly


def test_every_instruction_of_the_table_stands_in_csrc() -> None:
    translated = "".join(translate(name, text) for name, text in SOURCES.items())
    used = set(re.findall(r"::device_model::ptx::(\w+)", translated))
    assert used == set(INSTRUCTIONS.values())


@pytest.mark.parametrize("name", [name for name, text in sorted(SOURCES.items()) if "asm" in text])
@pytest.mark.parametrize(
    "change", [(".b64", ".b32"), (".sync", ".sink"), ("[%0]", "[%1]"), (".rn", ".rz"), ("p, 1, 1", "p, -1, 1")]
)
def test_changed_assembly_is_refused(name: str, change: tuple[str, str]) -> None:
    changed = re.sub(r'"(?:[^"\\]|\\.)*"', lambda literal: literal[0].replace(*change), SOURCES[name])
    if changed == SOURCES[name]:
        return
    with pytest.raises(TranslationError, match=re.escape(name)):
        translate(name, changed)


@pytest.mark.parametrize(
    "statement",
    [
        '"wgmma.fence.sync.aligned;" ::',  # without its memory clobber it could move
        '"mbarrier.arrive.shared::cta.b64 _, [%0];" ::"l"(address) : "memory"',
        '"bar.sync %0, %1;" ::"r"(1), "n"(kThreads) : "memory", "cc"',
        '"setmaxnreg.dec.sync.aligned.u32 40;"',
    ],
)
def test_an_instruction_with_other_operands_or_clobbers_is_refused(statement: str) -> None:
    with pytest.raises(TranslationError):
        assembly_call(statement, {})


def test_operands_are_kept_as_they_stand() -> None:
    call = assembly_call('"bar.sync %0, %1;" ::"r"(1 + group(a, "x,y")), "n"(kWarpgroup) : "memory"', {})
    assert call == '::device_model::ptx::BarSync(1 + group(a, "x,y"), kWarpgroup)'
