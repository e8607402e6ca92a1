"""What the processes of a run do together as it is put together."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybatch.corpus import CorpusConfig
from hybatch.models import EncoderConfig
from hybatch.processes import gather_objects, rank
from hybatch.training.config import RunConfig, TrainingConfig
from hybatch.training.run import assembly
from hybatch.training.run.assembly import OpenCorpora, build_run_encoder
from hybatch.training.run.run_folder import RunFolder
from tests.processes import run_processes


def _build(folder: str) -> list[int]:
    """In a process whose encoder stands once the main one has saved its own; what all then say to each other."""
    config = RunConfig(
        output_dir=folder,
        corpora=[CorpusConfig(path="x")],
        model=EncoderConfig(backbone="owner/backbone"),
        training=TrainingConfig(save_initial=True),
    )
    run = RunFolder(config)

    def build_slowly(*_: Any, **__: Any) -> SimpleNamespace:
        while rank() == 1 and not run.initial.exists():
            time.sleep(0.01)
        return SimpleNamespace()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "build_encoder", build_slowly)
        patch.setattr(assembly, "save_encoder", lambda encoder, directory, origin: directory.mkdir(parents=True))
        patch.setattr(assembly, "_initial_origin", lambda *_: None)
        corpora: Any = OpenCorpora([SimpleNamespace(name="x")], [])  # type: ignore[list-item]
        build_run_encoder(config, run, corpora, ["en"])
    return gather_objects(rank())


def test_processes_stay_together_where_one_is_slower_than_the_saving_of_the_encoder(tmp_path: Path) -> None:
    assert run_processes(_build, 2, str(tmp_path)) == [[0, 1], [0, 1]]
