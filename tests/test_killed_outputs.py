"""A command that is killed while it writes leaves each file old or new; its next start finds a tidy folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig, open_corpus
from hybatch.evaluation.embeddings import save_embeddings
from hybatch.evaluation.mining.mine import Negatives
from hybatch.evaluation.mining.output import write_filled
from hybatch.evaluation.results import write_results
from hybatch.paths import check_writable
from hybatch.reporting.inputs import ReportInputs
from hybatch.reporting.report import write_report
from tests.evaluation.synthetic import MemoryEmbeddings, random_embeddings, synthetic_task
from tests.killed import killed_before_every_call
from tests.reporting.synthetic import make_measured

Write = Callable[[Path, int], object]


def _evaluate(folder: Path) -> Write:
    return lambda output, version: write_results(output, {"version": version}, {"seconds": version})


def _save_embeddings(folder: Path) -> Write:
    task = synthetic_task(2)
    embeddings = [MemoryEmbeddings(*random_embeddings(task, width)) for width in (4, 8)]
    return lambda output, version: save_embeddings(embeddings[version - 1], task, output)


def _mine(folder: Path) -> Write:
    source = folder / "corpus"
    source.mkdir()
    (source / "en.jsonl").write_text(json.dumps({"id": "a", "question": "?", "passage": "A"}) + "\n")
    corpus = open_corpus(CorpusConfig(path=str(source)), cache_dir=folder / "cache", progress=False)
    found = {version: {"en": {0: Negatives([str(version)], [])}} for version in (1, 2)}
    return lambda output, version: write_filled(source, corpus, output, found[version], {"mined": version})


def _report(folder: Path) -> Write:
    def write(output: Path, version: int) -> None:
        measured = make_measured("model", level=version / 4, languages=("de", "en"))
        write_report(ReportInputs((measured,), (), ()), output)

    return write


def _files(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("writer", "is_one_folder", "stride"),
    [(_evaluate, False, 1), (_save_embeddings, True, 3), (_mine, True, 3), (_report, False, 19)],
)
def test_an_output_is_whole_whenever_its_writer_is_killed(
    writer: Callable[[Path], Write], is_one_folder: bool, stride: int, tmp_path: Path
) -> None:
    write = writer(tmp_path)
    versions = []
    for version in (1, 2):
        write(tmp_path / f"version-{version}", version)
        versions.append(_files(tmp_path / f"version-{version}"))
    output = tmp_path / "outputs" / "one"
    write(output, 1)
    for number in killed_before_every_call(lambda: write(output, 2), stride=stride):
        check_writable(output, "--output")
        files = _files(output)
        assert files.keys() == versions[0].keys(), number
        for name, content in files.items():
            assert content in (versions[0][name], versions[1][name]), (number, name)
        assert files in versions or not is_one_folder, number
        assert [path.name for path in output.parent.iterdir()] == ["one"], number
        assert not list(output.glob(".*")), number
    assert _files(output) == versions[1]
    assert not list(output.rglob(".*"))
