"""Records of a grid with known figures: every question's figure is drawn, and results.json's means follow from them.

G languages, N parallel questions, each asked in every language.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hybatch.evaluation.settings.scoring import METRICS
from hybatch.reporting.grids.description import GridDescription, description_from
from hybatch.reporting.grids.groups import Grid, gather_grid
from hybatch.reporting.grids.record_folder import read_record_folder

LANGUAGES = ("aa", "bb", "cc")
XQUAD_LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
MLQA_LANGUAGES = ("ar", "de", "en", "es", "hi", "vi", "zh")
BACKBONES = {"mini-xlmr": "a" * 64, "mini-labse": "b" * 64, "scratch": None}
GRID_YAML = """\
name: trial
starts:
  mini-xlmr: {published: xlm-r}
  mini-labse: {published: labse}
samplings: [x-x-mono, x-y, hybrid, x-x, en-en, sequential]
tasks: [xquad-r, mlqa-r]
claims:
  - {name: claim, title: The claim, sampling: hybrid, rivals: [x-x-mono, x-y]}
numbers: {summary: [1], rank-distance: [2], xquad-r: [3, 4, 5], mlqa-r: [6, 7, 8]}
"""
DESCRIPTION = description_from(yaml.safe_load(GRID_YAML), "grid.yaml")
# What each sampling adds to the average precision of every question; its rank distance shrinks by 1000 times that.
LEVELS = {"x-x-mono": 0.0, "x-y": 0.02, "hybrid": 0.05, "x-x": -0.1, "en-en": -0.2, "sequential": 0.01}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One run to write; `levels` replaces LEVELS."""

    start: str = "mini-xlmr"
    sampling: str = "hybrid"
    alpha: float | None = None
    seed: int = 1
    unseen: tuple[str, ...] = ()
    level: float | None = None

    @property
    def name(self) -> str:
        """Of the run and its folder."""
        unseen = "".join(f"-no-{language}" for language in self.unseen)
        return f"{self.sampling}{self.alpha or ''}--{self.start}{unseen}--seed{self.seed}"


def core(starts: Sequence[str] = ("mini-xlmr",), seeds: Sequence[int] = (1, 2, 3)) -> list[Spec]:
    """The three samplings of the paper."""
    return [
        Spec(start=start, sampling=sampling, alpha=0.5 if sampling == "hybrid" else None, seed=seed)
        for start in starts
        for sampling in ("hybrid", "x-y", "x-x-mono")
        for seed in seeds
    ]


def write_record(
    directory: Path,
    spec: Spec,
    *,
    tasks: Mapping[str, Sequence[str]] = {"xquad-r": LANGUAGES, "mlqa-r": LANGUAGES[:2]},
    tatoeba: Sequence[str] = ("deu", "ell"),
    num_questions: int = 40,
) -> Path:
    """Write one record, as hybatch 0.1.0 did, and return its folder; equal specs give equal files."""
    folder = directory / spec.name
    folder.mkdir(parents=True)
    record = {
        "name": spec.name,
        "start": spec.start,
        "backbone_sha256": BACKBONES.get(spec.start, "c" * 64),
        "sampling": spec.sampling,
        "alpha": spec.alpha,
        "seed": spec.seed,
        "unseen_languages": list(spec.unseen),
        "steps": 400,
        "chosen_step": 300 + 10 * spec.seed,
        "selection_loss": 1.0 + spec.seed / 10,
        "config": {"seed": spec.seed},
        "versions": {"hybatch": "1", "torch": "2"},
        "commit": "0123456789abcdef0123",
    }
    (folder / "study.json").write_text(json.dumps(record))
    rows: list[dict[str, Any]] = [{"step": s, "kind": "x-y", "loss": 1 / s} for s in range(1, 6)]
    rows.append({"step": 5, "validation": {"loss": {"x-y": 0.5}}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for task, languages in tasks.items():
        _write_task(folder / task, spec, task, languages, num_questions)
    if tatoeba:
        (folder / "tatoeba").mkdir()
        (folder / "tatoeba" / "results.json").write_text(json.dumps(_tatoeba(spec, tatoeba)))
    return folder


def read_grid(directory: Path, description: GridDescription = DESCRIPTION) -> Grid:
    """Read all records below a directory."""
    return gather_grid(
        [read_record_folder(path.parent) for path in sorted(directory.glob("*/study.json"))], description
    )


def change_questions(path: Path, **changes: np.ndarray) -> None:
    """Replace tables of a questions.npz."""
    with np.load(path) as archive:
        tables = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **tables)


def write_records(directory: Path, specs: Sequence[Spec], **options: Any) -> Path:
    """Write one record a spec, and the grid's description; return the directory."""
    for spec in specs:
        write_record(directory, spec, **options)
    (directory / "grid.yaml").write_text(GRID_YAML)
    return directory


def _level(spec: Spec) -> float:
    return LEVELS.get(spec.sampling, 0.03) if spec.level is None else spec.level


def _write_task(folder: Path, spec: Spec, task: str, languages: Sequence[str], num_questions: int) -> None:
    # A question is as hard for every run; what differs is the level, and noise of the run's own.
    questions = np.random.default_rng(zlib.crc32(task.encode()))
    own = np.random.default_rng(zlib.crc32(f"{task} {spec.name}".encode()))
    shape_NGG = (num_questions, len(languages), len(languages) + 1)
    hard_NGG = questions.uniform(0.2, 0.6, shape_NGG)
    precision_NGG = hard_NGG + _level(spec) + own.normal(0, 0.01, shape_NGG)
    distance_NG = 500 - 1000 * _level(spec) + questions.normal(0, 50, shape_NGG[:2]) + own.normal(0, 5, shape_NGG[:2])
    folder.mkdir()
    results = results_of(task, spec.name, languages, precision_NGG.mean(axis=0), distance_NG.mean(axis=0))
    (folder / "results.json").write_text(json.dumps(results))
    own_G = np.arange(len(languages))
    diagonal_NG = precision_NGG[:, own_G, own_G]
    total_N = precision_NGG[:, :, :-1].sum(axis=(1, 2)) - diagonal_NG.sum(axis=1)
    np.savez(
        folder / "questions.npz",
        languages=np.array(languages),
        ids=np.array(sorted(f"q{n:05}" for n in range(num_questions))),
        monolingual=diagonal_NG.mean(axis=1).astype(np.float32),
        cross_lingual=(total_N / (len(languages) * (len(languages) - 1))).astype(np.float32),
        multilingual=precision_NGG[:, :, -1].mean(axis=1).astype(np.float32),
        rank_distance=distance_NG.mean(axis=1).astype(np.float32),
    )


def results_of(
    task: str, model: str, languages: Sequence[str], precision_GG: np.ndarray, distance_G: np.ndarray
) -> dict[str, Any]:
    """The object of results.json: [G, G + 1] mAP, the pool of all languages last, and [G] rank distances."""

    def figures(value: float, **more: float) -> dict[str, Any]:
        return {**dict.fromkeys(METRICS, float(value)), "num_queries": 40, "num_skipped": 0, **more}

    pairs = {x: {y: figures(precision_GG[i, j]) for j, y in enumerate(languages)} for i, x in enumerate(languages)}
    pool = {x: figures(precision_GG[i, -1], rank_distance=float(distance_G[i])) for i, x in enumerate(languages)}
    cells = {
        "monolingual": [pairs[x][x] for x in languages],
        "cross_lingual": [pairs[x][y] for x in languages for y in languages if x != y],
        "multilingual": list(pool.values()),
    }
    summary: dict[str, dict[str, Any]] = {
        setting: {**{m: float(np.mean([f[m] for f in listed])) for m in METRICS}, "num_settings": len(listed)}
        for setting, listed in cells.items()
    }
    summary["multilingual"]["rank_distance"] = float(np.mean(distance_G))
    return {
        "task": task,
        "model": model,
        "languages": list(languages),
        "backend": "cpu",
        "num_queries": dict.fromkeys(languages, 40),
        "num_candidates": dict.fromkeys(languages, 90),
        "pairs": pairs,
        "multilingual": pool,
        "summary": summary,
        "ties": {"positives_tied": 0, "map_optimistic": 0.4, "map_pessimistic": 0.4},
        "versions": {"hybatch": "1"},
    }


def _tatoeba(spec: Spec, languages: Sequence[str]) -> dict[str, Any]:
    rng = np.random.default_rng(zlib.crc32(f"tatoeba {spec.name}".encode()))
    metrics = [f"{margin}accuracy_{way}_pivot" for margin in ("", "margin_") for way in ("to", "from")]
    figures = {x: {metric: 0.3 + float(rng.uniform(0, 0.1)) for metric in metrics} for x in languages}
    summary = {metric: float(np.mean([row[metric] for row in figures.values()])) for metric in metrics}
    return {
        "task": "tatoeba",
        "model": spec.name,
        "languages": list(languages),
        "similarity": "cosine",
        "num_queries": dict.fromkeys(languages, 100),
        "num_candidates": dict.fromkeys(languages, 100),
        "metrics": metrics,
        "figures": {x: {**row, "num_queries": 100} for x, row in figures.items()},
        "summary": {"mean": {**summary, "num_languages": len(languages)}},
        "versions": {"hybatch": "1"},
    }
