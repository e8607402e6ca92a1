"""The Python of the documents runs, and prints what stands behind it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TextIO

import pytest

from hybatch.models import EncoderConfig, FreshBackboneConfig, build_encoder

ROOT = Path(__file__).parents[1]


def _snippets(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)


def _promised(snippet: str) -> list[str]:
    """What the comments behind the lines that print say."""
    return re.findall(r"^print\(.*\)  # (.*)$", snippet, re.M)


def _run(snippet: str, names: dict[str, object]) -> list[str]:
    """What the snippet itself prints to the terminal; libraries say things of their own there."""
    printed: list[str] = []

    def record(*values: object, file: TextIO | None = None) -> None:
        if file is None:
            printed.append(" ".join(map(str, values)))
        else:
            print(*values, file=file)

    names["print"] = record
    exec(compile(snippet, "<document>", "exec"), names)
    return printed


def test_the_snippets_of_the_python_page_print_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    snippets = _snippets("docs/python.md")
    for snippet in snippets:
        assert _run(snippet, names) == _promised(snippet)
    assert sum(map(len, map(_promised, snippets))) >= 10


def test_the_readmes_python_runs_on_the_demos_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encode, count = [snippet for snippet in _snippets("README.md") if "SentenceTransformer" not in snippet]
    fresh = FreshBackboneConfig(width=16, layers=0, vocabulary_size=400)
    texts = [*re.findall(r'"([^"]{20,})"', encode)] * 3
    build_encoder(EncoderConfig(fresh=fresh), seed=0, texts=texts).save("demo/run/final")
    # The encoder of the demo finds the passage; one of random weights runs through the same lines.
    assert _run(encode, {})[0] in ("0", "1")
    assert _run(count, {}) == _promised(count)
