"""Which differences between two configurations matter, and what a run's folder may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.models import EncoderConfig
from hybatch.processes import rank
from hybatch.training.config import RunConfig
from hybatch.training.flat import flatten
from hybatch.training.run.run_folder import RunFolder, check_shared, claimed, differing_fields
from tests.processes import run_processes


def test_nested_values_become_leaves() -> None:
    value = {"a": {"b": [1, {"c": 2}], "d": []}, "e": None}
    assert flatten(value) == {"a.b.0": 1, "a.b.1.c": 2, "a.d": [], "e": None}


def test_only_fields_that_change_what_is_computed_count() -> None:
    before = {
        "output_dir": "a",
        "seed": 1,
        "corpora": [{"path": "x", "split": "train"}],
        "loss": {"temperature": 0.05},
        "training": {"steps": 5, "log_every": 1, "trackers": ["tensorboard"], "chunk_size": 32},
    }
    now = {
        "output_dir": "b",
        "seed": 2,
        "corpora": [{"path": "y", "split": "dev"}],
        "loss": {"temperature": 0.05, "gather": "ring"},
        "training": {"steps": 5, "log_every": 2, "trackers": [], "chunk_size": 8, "chunk_tokens": 4096},
    }
    assert differing_fields(before, now) == ["corpora.0.split: was 'train', now 'dev'", "seed: was 1, now 2"]


def test_a_field_that_one_of_them_lacks_is_named() -> None:
    assert differing_fields({"seed": 1, "a": 2}, {"a": 2}) == ["seed: was 1, now 'nothing'"]


def _claim(directory: Path, backbone: str = "labse") -> None:
    config = RunConfig(
        output_dir=str(directory), corpora=[CorpusConfig(path="embedded")], model=EncoderConfig(backbone=backbone)
    )
    with claimed(RunFolder(config), config, print):
        pass


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has begun."""
    _claim(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").touch()
    return tmp_path / "run"


def test_a_backbone_may_move_to_a_folder_of_the_same_name_and_of_no_other(tmp_path: Path) -> None:
    for folder in ("old/model", "new/model", "new/other"):
        (tmp_path / folder).mkdir(parents=True)
    _claim(tmp_path / "run", str(tmp_path / "old" / "model"))
    (tmp_path / "run" / "metrics.jsonl").touch()
    (tmp_path / "old" / "model").rmdir()
    _claim(tmp_path / "run", str(tmp_path / "new" / "model"))
    assert "new/model" in (tmp_path / "run" / "config.yaml").read_text()
    for elsewhere in ("new/other", "nowhere/model"):
        with pytest.raises(UserError, match=r"model\.backbone: was '.*new/model', now"):
            _claim(tmp_path / "run", str(tmp_path / elsewhere))


def test_a_run_may_claim_its_folder_again(run: Path) -> None:
    _claim(run)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_folder_in_the_place_of_a_file_is_named(name: str, run: Path) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    with pytest.raises(UserError, match=f"run/{name} is a folder, where a run has a file: move it away"):
        _claim(run)


@pytest.mark.parametrize("name", ["initial", "best", "final", "checkpoints", "tensorboard"])
def test_a_file_in_the_place_of_a_folder_is_named(name: str, run: Path) -> None:
    (run / name).touch()
    with pytest.raises(UserError, match=f"run/{name} is a file, where a run has a folder: move it away"):
        _claim(run)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"seed: 1 # caf\xe9\n", "can't decode byte 0xe9 in position 13"),
        (b"\x00seed: 1\n", "characters are not allowed"),
        (b"seed: [1\n", "flow sequence"),
        (b"- 1\n", "it holds no options"),
        (b"", "it holds no options"),
    ],
)
def test_a_configuration_of_a_run_that_cannot_be_read_is_named(content: bytes, reason: str, run: Path) -> None:
    (run / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=reason) as refused:
        _claim(run)
    assert str(refused.value).startswith(f"{run / 'config.yaml'} cannot be read (")
    assert str(refused.value).endswith("name a new output_dir")
    assert (run / "config.yaml").read_bytes() == content


def _check_shared(folders: list[str]) -> str | None:
    """What is wrong with the output folders of the processes, by rank."""
    folder = RunFolder(RunConfig(output_dir=folders[rank()], corpora=[CorpusConfig(path="x")], model=EncoderConfig()))
    try:
        check_shared(folder)
    except UserError as error:
        return str(error)
    return None


def test_processes_on_folders_of_their_own_are_told_so_before_the_first_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    assert run_processes(_check_shared, 2, [str(one), str(one)]) == [None, None]
    told = run_processes(_check_shared, 2, [str(one), str(other)])
    assert told[0] == told[1]
    assert f"output_dir is {other}" in told[0]
    assert "(process 1)" in told[0]
    assert list(one.iterdir()) == []
