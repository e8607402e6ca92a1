"""--download puts the hub's files where the task looks for them."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.catalogue import download as module
from hybatch.evaluation.catalogue.download import download
from hybatch.evaluation.catalogue.registry import TASKS, load_task
from hybatch.evaluation.command import evaluate
from tests.evaluation.collection.fakes import fake
from tests.evaluation.tasks.test_belebele import write_belebele
from tests.evaluation.tasks.test_miracl import write_miracl
from tests.evaluation.tasks.test_mrtydi import write_mrtydi


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Repositories by id; a call copies the files whose names match, as the hub's client does."""
    repositories: dict[str, Path] = {}

    def copy(repository: str, *, repo_type: str, allow_patterns: list[str], local_dir: Path) -> None:
        assert repo_type == "dataset"
        root = repositories[repository]
        for path in root.rglob("*"):
            name = str(path.relative_to(root))
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (local_dir / name).write_bytes(path.read_bytes())

    monkeypatch.setattr(module, "snapshot_download", copy)
    return repositories


def test_miracl_is_fetched_for_the_languages_wanted_alone(hub: dict[str, Path], tmp_path: Path, model: Path) -> None:
    for language in ("sw", "yo"):
        write_miracl(tmp_path / "hub", language, fake())
    hub["miracl/miracl"] = hub["miracl/miracl-corpus"] = tmp_path / "hub" / "miracl"
    arguments = ["--task", "miracl", "--data-dir", str(tmp_path / "data"), "--model", str(model), "--download"]
    assert list(evaluate([*arguments, "--languages", "sw"]).results["figures"]) == ["sw"]
    assert not list((tmp_path / "data").rglob("*-yo*"))


def test_mrtydi_and_belebele_are_found_where_they_were_put(hub: dict[str, Path], tmp_path: Path) -> None:
    write_mrtydi(tmp_path / "hub", "telugu", fake())
    hub["castorini/mr-tydi"] = hub["castorini/mr-tydi-corpus"] = tmp_path / "hub" / "mrtydi"
    write_belebele(tmp_path / "hub")
    (tmp_path / "hub" / "belebele").rename(tmp_path / "hub" / "data")
    hub["facebook/belebele"] = tmp_path / "hub"
    data = tmp_path / "data"
    download(TASKS["mrtydi"], data, ["te"])
    assert load_task("mrtydi", data, ["te"]).languages == ("te",)
    download(TASKS["belebele"], data, None)
    assert load_task("belebele", data).languages == ("deu_Latn", "eng_Latn")


def test_what_cannot_be_fetched_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route\nand more")

    monkeypatch.setattr(module, "snapshot_download", refuse)
    with pytest.raises(UserError, match=r"miracl/miracl cannot be fetched: no route$"):
        download(TASKS["miracl"], tmp_path, ["sw"])
    with pytest.raises(UserError, match="tatoeba is not on the hub in its publisher's layout; get it from https"):
        download(TASKS["tatoeba"], tmp_path, None)
    with pytest.raises(UserError, match=r"miracl.*or give --download"):
        load_task("miracl", tmp_path, ["sw"])
