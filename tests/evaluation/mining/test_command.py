"""`hybatch mine` from the command line: a corpus that training reads, and what is refused before any encoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hybatch.cli import main as hybatch
from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation.mining.command import main
from hybatch.evaluation.teacher import open_teacher
from tests.evaluation.cross_encoders import write_cross_encoder
from tests.evaluation.synthetic import write_jsonl
from tests.processes import run_processes


def _arguments(data: Path, model: Path, output: Path, *more: object) -> list[str]:
    chosen = ["--model", str(model), "--corpus", str(data), "--output", str(output), "--ranks", "1", "20"]
    return [*chosen, "--device", "cpu", *map(str, more)]


def _read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: [json.loads(line) for line in open(path, encoding="utf-8")] for path in folder.glob("*.jsonl")}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_mined_corpus_is_the_old_one_with_negatives_that_the_trainer_reads(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _bytes(data)
    output = tmp_path / "mined"
    assert main(_arguments(data, model, output, "--negatives", 3, "--relation", "pool")) == 0
    old, new = _read(data), _read(output)
    assert {x: [{**row, "negatives": None} for row in rows] for x, rows in new.items()} == {
        x: [{**row, "negatives": None} for row in rows] for x, rows in old.items()
    }
    assert _bytes(data) == before
    assert all(len(row["negatives"]) == 3 for rows in new.values() for row in rows)
    corpus = open_corpus(CorpusConfig(path=str(output)), progress=False)
    assert corpus.has_hard_negatives
    first = [0] * corpus.num_examples
    here = [i for i, mask in enumerate(corpus.passage_mask(slice(None)).tolist()) if mask & 1]
    groups = corpus.hard_negative_groups(here, first[: len(here)])
    own = corpus.passage_groups(here).tolist()
    assert all(-1 not in listed and group not in listed for listed, group in zip(groups, own, strict=True))
    printed = capsys.readouterr().out
    questions = sum(map(len, new.values()))
    assert f"{3 * questions} negatives for {questions} questions" in printed
    report = json.loads((output / "mining.json").read_text())
    assert report["total"]["negatives"] == 3 * questions
    assert report["options"]["relation"] == "pool"


def test_mining_twice_gives_the_same_bytes(data: Path, model: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        main(_arguments(data, model, tmp_path / name, "--relation", "other", "--ratio", "0.999"))
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")


def test_rows_that_cannot_be_mined_for_stay_and_old_negatives_of_the_others_go(model: Path, tmp_path: Path) -> None:
    rows = [
        {"id": "0", "question": "one?", "passage": "eins", "negatives": ["old"], "note": {"kept": [1, 2.5]}},
        {"id": "1", "question": "two?", "passage": "zwei"},
        {"id": "2", "passage": "drei", "negatives": ["old", "older"]},
    ]
    write_jsonl(tmp_path / "corpus", {"de": rows})
    main(_arguments(tmp_path / "corpus", model, tmp_path / "mined"))
    first, _, last = _read(tmp_path / "mined")["de"]
    assert sorted(first["negatives"]) == ["drei", "zwei"]
    assert first["note"] == rows[0]["note"]
    assert last == rows[2]


def test_a_cross_encoder_judges_and_its_scores_are_saved(data: Path, model: Path, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "cross", model)
    more = ("--teacher", folder, "--ratio", 0.9, "--save-scores", "--negatives", 2)
    main(_arguments(data, model, tmp_path / "mined", *more))
    main(_arguments(data, model, tmp_path / "random", *more, "--random", "--seed", 4))
    teacher = open_teacher(str(folder))
    for mined in (tmp_path / "mined", tmp_path / "random"):
        filled = [row for rows in _read(mined).values() for row in rows if "negatives" in row]
        assert filled
        for row in filled:
            texts = [row["passage"], *row["negatives"]]
            scores = teacher.scores([row["question"]] * len(texts), texts, batch_size=8, progress=False)
            np.testing.assert_allclose(row["scores"], scores, atol=1e-5)
            assert all(score < row["scores"][0] - 0.1 * abs(row["scores"][0]) for score in row["scores"][1:])
    assert _read(tmp_path / "random") != _read(tmp_path / "mined")
    report = json.loads((tmp_path / "random" / "mining.json").read_text())["options"]
    assert (report["teacher"], report["random"], report["seed"]) == (str(folder), True, 4)


@pytest.mark.slow
def test_two_processes_mine_what_one_does(data: Path, model: Path, tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "cross", model)
    more = ("--teacher", folder, "--max-score", 0.5, "--save-scores", "--random", "--relation", "pool")
    for processes in (1, 2):
        run_processes(main, processes, _arguments(data, model, tmp_path / f"{processes}", *more))
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2")


def _squad(folder: Path) -> tuple[str, str]:
    """Two articles in two languages as SQuAD has them; one answer a question."""
    folder.mkdir()
    for language, sign in (("de", "!"), ("en", "?")):
        paragraphs = [
            {"context": f"{word}{sign} {language}", "qas": [
                {"id": word, "question": f"{language} {word}{sign}", "answers": [{"text": word, "answer_start": 0}]}
            ]}
            for word in ("ash", "beech", "cedar", "doum")
        ]  # fmt: skip
        (folder / f"{language}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return str(folder), "{format: squad}"


def _mrtydi(folder: Path) -> tuple[str, str]:
    """Two positives a query, in one passage group, and a hard negative from before."""
    folder.mkdir()
    for language in ("bn", "fi"):
        rows = [
            {
                "query_id": f"{query}",
                "query": f"{language} {query}",
                "positive_passages": [
                    {"docid": f"{query}-{i}", "title": f"t{i}", "text": f"{language} text {query} {i}"} for i in (0, 1)
                ],
                "negative_passages": [{"docid": "x", "title": "", "text": "an old negative"}],
            }
            for query in range(4)
        ]
        (folder / f"{language}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder), "{format: mrtydi, languages: [bn, fi]}"


def _mrtydi_together(folder: Path) -> tuple[str, str]:
    path, _ = _mrtydi(folder)
    return path, "{format: mrtydi, languages: [bn, fi], positives: together}"


def _mmarco(folder: Path) -> tuple[str, str]:
    """Triples over texts by id; one triple stands twice."""
    for part in ("collections", "queries"):
        (folder / part).mkdir(parents=True)
    for name in ("english", "german"):
        texts = "".join(f"{i}\t{name} text {i}\n" for i in range(6))
        (folder / "collections" / f"{name}_collection.tsv").write_text(texts)
        (folder / "queries" / f"{name}_queries.train.tsv").write_text("".join(f"{i}\tq {name} {i}\n" for i in range(3)))
    (folder / "triples.train.ids.small.tsv").write_text("0\t1\t2\n1\t3\t4\n2\t5\t0\n0\t1\t2\n")
    return str(folder), "{}"


def _datasets(folder: Path) -> tuple[str, str]:
    folder.mkdir()
    rows = [{"qid": f"{i}", "lang": x, "q": f"{x} {i}?", "p": f"{x} is {i}"} for x in ("el", "vi") for i in range(5)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = "{id: qid, question: q, passage: p, language: lang}"
    return str(folder / "all.jsonl"), f"{{format: datasets, columns: {columns}}}"


@pytest.mark.parametrize("layout", [_squad, _mrtydi, _mrtydi_together, _mmarco, _datasets])
def test_a_corpus_of_any_format_becomes_one_that_the_trainer_reads(
    layout: Callable[[Path], tuple[str, str]], model: Path, tmp_path: Path
) -> None:
    path, options = layout(tmp_path / "corpus")
    arguments = ["--model", str(model), "--corpus", path, "--corpus-options", options, "--device", "cpu"]
    assert main([*arguments, "--output", str(tmp_path / "mined"), "--ranks", "1", "9", "--negatives", "2"]) == 0
    old = open_corpus(CorpusConfig(path=path, **yaml.safe_load(options)), progress=False)
    new = open_corpus(CorpusConfig(path=str(tmp_path / "mined")), progress=False)
    assert (new.languages, new.num_examples, new.num_groups) == (old.languages, old.num_examples, old.num_groups)
    everything, groups = slice(None), [one.passage_groups(slice(None)) for one in (old, new)]
    assert len(set(zip(*(one.tolist() for one in groups), strict=True))) == old.num_groups
    for place in range(len(old.languages)):
        mask = (old.passage_mask(everything) >> np.uint64(place)) & 1
        examples = np.flatnonzero(mask)
        languages = np.full(len(examples), place)
        assert new.passages(examples, languages) == old.passages(examples, languages)
        assert new.questions(examples, languages) == old.questions(examples, languages)
        assert new.positives(examples, languages) == old.positives(examples, languages)
        own = groups[1][examples].tolist()
        for listed, group in zip(new.hard_negative_groups(examples, languages), own, strict=True):
            assert len(listed) == 2
            assert group not in listed


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--negatives", "0"], "--negatives is 0"),
        (["--ranks", "0", "5"], "--ranks is 0"),
        (["--ranks", "6", "5"], "--ranks 6 5"),
        (["--ranks", "500", "600"], "--ranks 500 600: relation same has [0-9]+ distinct passages"),
        (["--ratio", "0"], "--ratio is 0"),
        (["--ratio", "nan"], "--ratio is nan"),
        (["--margin", "inf"], "--margin is inf"),
        (["--corpus", "NOWHERE"], "no such folder"),
        (["--corpus-options", "{format: squad"], "--corpus-options .* not YAML"),
        (["--corpus-options", "{path: here}"], "expected {option: value, ...} of name, format"),
        (["--corpus-options", "{format: csv}"], "--corpus-options .*csv"),
        (["--corpus", "FOREIGN"], "no <lang>.jsonl"),
        (["--model", "NOWHERE"], "there is no such folder"),
        (["--teacher", "NOWHERE"], "there is no such folder"),
        (["--max-score", "nan"], "--max-score is nan"),
        (["--random", "--seed", "-1"], "--seed is -1"),
        (["--output", "FOREIGN"], "no hybatch mine has written"),
        (["--output", "DATA"], "a folder apart from --corpus"),
        (["--output", "PARENT"], "a folder apart from --corpus"),
        (["--output", "FILE"], "is a file"),
    ],
)
def test_bad_input_is_refused_before_any_encoding(
    data: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    places = {
        "NOWHERE": tmp_path / "nowhere",
        "FOREIGN": tmp_path / "foreign",
        "FILE": tmp_path / "file",
        "DATA": data,
        "PARENT": data.parent,
    }

    def encode(*_: object, **__: object) -> None:
        raise AssertionError("encoding began")

    monkeypatch.setattr("hybatch.evaluation.encoding.encode.encode_distinct", encode)
    with pytest.raises(UserError, match=message):
        main(_arguments(data, model, tmp_path / "mined", *(places.get(word, word) for word in more)))
    assert not (tmp_path / "mined").exists()
    assert (tmp_path / "foreign" / "notes.txt").read_text() == "mine"


def test_a_mined_corpus_is_replaced_only_when_told(data: Path, model: Path, tmp_path: Path) -> None:
    main(_arguments(data, model, tmp_path / "mined", "--negatives", 1))
    before = _bytes(tmp_path / "mined")
    with pytest.raises(UserError, match="--overwrite"):
        main(_arguments(data, model, tmp_path / "mined", "--negatives", 2))
    assert _bytes(tmp_path / "mined") == before
    main(_arguments(data, model, tmp_path / "mined", "--negatives", 2, "--overwrite"))
    assert _bytes(tmp_path / "mined") != before
    assert {path.name for path in tmp_path.iterdir()} == {"mined"}


def test_a_rule_that_leaves_nothing_says_so_and_writes_nothing(
    data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hybatch(["mine", *_arguments(data, model, tmp_path / "mined", "--margin", 3)]) == 2
    assert "no question got a negative, and nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "mined").exists()


def test_the_corpus_is_written_before_anything_is_said_of_it(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_reads() -> None:
        raise BrokenPipeError

    monkeypatch.setattr("hybatch.evaluation.mining.command.table_console", nobody_reads)
    with pytest.raises(BrokenPipeError):
        main(_arguments(data, model, tmp_path / "mined"))
    assert (tmp_path / "mined" / "mining.json").is_file()
