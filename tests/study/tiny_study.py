"""A study of two runs that take seconds: a corpus of three languages and a backbone of a few thousand parameters."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hybatch.models import build_encoder
from hybatch.models.config import EncoderConfig, FreshBackboneConfig
from tests.training.small_run import WORDS, write_config

ROOT = Path(__file__).resolve().parents[2]
HYBRID, CROSS = "hybrid--tiny--seed1", "x-y--tiny--without-es--seed1"
GRID = "hybrid tiny.yaml 1\nx-y tiny.yaml 1 without-es.yaml\n"


@dataclass(frozen=True)
class TinyStudy:
    """A folder with a grid, its recipe and overlays, from which the programs of study/ are run.

    Attributes:
        folder: recipe and grid, runs/, results/; the programs' working directory.
        environment: of the programs.
    """

    folder: Path
    environment: dict[str, str]

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def record(self, name: str) -> Path:
        return self.results / f"{name}.record.json"

    def options(self, *more: str) -> list[str]:
        """Arguments of run_grid.py; paths are relative, so that records of two studies are alike."""
        given = ["grid.txt", "--recipe", "config.yaml", "--runs", "runs", "--results", "results"]
        return [*given, "--tasks", "embedded", *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the runner; its output is piped together."""
        command = [sys.executable, str(ROOT / "study" / "run_grid.py"), *self.options(*more)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def run(self, *more: str) -> tuple[int, str]:
        """Run the runner to its end: exit code, output."""
        process = self.start(*more)
        output, _ = process.communicate()
        return process.returncode, output

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process work in the study's folder, as its programs do."""
        monkeypatch.chdir(self.folder)
        for name in ("HYBATCH_BACKBONES", "HYBATCH_CACHE_DIR"):
            monkeypatch.setenv(name, self.environment[name])

    def inputs_in(self, folder: Path) -> TinyStudy:
        """The same study in another folder, with nothing done."""
        folder.mkdir()
        for path in self.folder.iterdir():
            if path.is_file():
                shutil.copy(path, folder / path.name)
        return TinyStudy(folder, self.environment)

    def finished_in(self, folder: Path) -> TinyStudy:
        """The same study in another folder, as far as it is done."""
        other = self.inputs_in(folder)
        shutil.copytree(self.runs, other.runs)
        shutil.copytree(self.results, other.results)
        return other

    def records(self) -> dict[str, bytes]:
        """The bytes of every recorded file, without the commit, which may change while tests run."""
        commit = re.compile(rb'"commit": [^\n]*\n')
        return {name: commit.sub(b"", content) for name, content in files(self.results).items()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_study(folder: Path) -> TinyStudy:
    """Write recipe, overlays, grid and backbone."""
    recipe = write_config(folder)
    config = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    del config["model"]["fresh"]
    recipe.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    (folder / "grid.txt").write_text(GRID, encoding="utf-8")
    (folder / "tiny.yaml").write_text("model: {backbone: $HYBATCH_BACKBONES/tiny}\n", encoding="utf-8")
    without = "sampling: {exclude_languages: [es]}\nvalidation: {languages: [de, en]}\n"
    (folder / "without-es.yaml").write_text(without, encoding="utf-8")
    write_backbone(folder / "backbones" / "tiny", seed=0)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HYBATCH_BACKBONES": str(folder / "backbones"),
        "HYBATCH_CACHE_DIR": str(folder / "cache"),
    }
    return TinyStudy(folder, environment)


def write_backbone(folder: Path, *, seed: int) -> None:
    fresh = FreshBackboneConfig(width=32, layers=1, heads=2, vocabulary_size=400, dropout=0.0)
    config = EncoderConfig(fresh=fresh, query_max_length=24, passage_max_length=32)
    texts = [" ".join(words) for words in WORDS.values()]
    build_encoder(config, seed=seed, texts=texts).save(folder)
