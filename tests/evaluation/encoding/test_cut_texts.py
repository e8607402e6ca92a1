"""How many texts a model does not read to their end, counted while they are encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.evaluation.command import evaluate
from hybatch.evaluation.encoding.cut_texts import CutTexts, cut_warnings
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from tests.evaluation.synthetic import write_jsonl
from tests.processes import run_processes

TEXTS = ["one", "two " * 3, "three " * 6, "four " * 12, "five " * 30, "one"]


def _encoder() -> Encoder:
    config = EncoderConfig(
        fresh=FreshBackboneConfig(width=16, layers=0, architecture="nomic_bert", vocabulary_size=300, dropout=0.0),
        query_max_length=16,
        passage_max_length=24,
    )
    return build_encoder(config, seed=0, texts=["one two three four five " * 4])


def _counted(_: str = "") -> dict[str, Any]:
    cut = CutTexts()
    encoder = _encoder()
    for role in ("query", "passage"):
        encode_texts(encoder, TEXTS, role, batch_size=2, progress=False, cut=cut)
    return cut.counts()


def test_distinct_texts_that_fill_the_length_are_counted_by_role() -> None:
    encoder = _encoder()
    counts = _counted()
    for role, longest in (("query", 16), ("passage", 24)):
        lengths = [len(encoder.tokenize([text], role)["input_ids"][0]) for text in sorted(set(TEXTS))]
        full = sum(length == longest for length in lengths)
        assert counts[role] == {"cut": full, "of": 5, "max_length": longest}
        assert 0 < full < 5


@pytest.mark.slow
def test_processes_count_every_text_once() -> None:
    assert run_processes(_counted, 2, "") == [_counted()] * 2


def test_a_fifth_is_worth_a_warning_and_less_is_not() -> None:
    counts = {"query": {"cut": 19, "of": 100, "max_length": 64}, "passage": {"cut": 2, "of": 10, "max_length": 256}}
    (line,) = cut_warnings(counts)
    assert line.startswith("20% of the passage texts (2 of 10) fill the 256 tokens")
    assert cut_warnings({}) == []


def test_the_command_warns_and_leaves_the_counts_with_the_timings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _encoder().save(tmp_path / "model")
    rows = [{"id": str(i), "question": f"{i}?", "passage": f"{i} {text}"} for i, text in enumerate(TEXTS)]
    write_jsonl(tmp_path / "data", {"xx": rows})
    arguments = ["--task", "parallel", "--data-dir", str(tmp_path / "data"), "--model", str(tmp_path / "model")]
    evaluate([*arguments, "--output", str(tmp_path / "out")])
    counts = json.loads((tmp_path / "out" / "timings.json").read_text())["cut_texts"]
    assert counts["query"] == {"cut": 0, "of": 6, "max_length": 16}
    assert counts["passage"]["of"] == 6
    assert counts["passage"]["cut"] >= 2
    printed = capsys.readouterr().err
    assert "warning: " in printed
    assert "of the passage texts" in printed
    assert "of the query texts" not in printed
