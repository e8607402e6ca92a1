"""Small tasks and embeddings for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from hybatch.evaluation.embeddings import EVERY_ROW, Part, Rows, Similarity
from hybatch.evaluation.settings.task import RetrievalTask


def synthetic_task(seed: int = 0, languages: tuple[str, ...] = ("aa", "bb", "cc"), most: int = 12) -> RetrievalTask:
    """A task of random sizes in which some queries lack a positive in some languages, or have several."""
    rng = np.random.default_rng(seed)
    candidates = {x: [f"{x} candidate {i}" for i in range(rng.integers(1, most))] for x in languages}
    queries = {x: [f"{x} query {i}" for i in range(rng.integers(1, most))] for x in languages}
    pool = sum(map(len, candidates.values()))
    positives = {
        x: [rng.choice(pool, size=rng.integers(0, min(4, pool + 1)), replace=False).tolist() for _ in queries[x]]
        for x in languages
    }
    positives[languages[0]][0] = [int(rng.integers(pool))]
    return RetrievalTask("synthetic", tuple(languages), queries, candidates, positives)


def random_embeddings(
    task: RetrievalTask, width: int, seed: int = 0, *, integers: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """float32 rows of length 1, or of small whole numbers, which give many ties."""
    rng = np.random.default_rng(seed)

    def rows(count: int) -> np.ndarray:
        if integers:
            return rng.integers(-2, 3, size=(count, width)).astype(np.float32)
        values = rng.standard_normal((count, width))
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

    return (
        {language: rows(len(task.queries[language])) for language in task.languages},
        {language: rows(len(task.candidates[language])) for language in task.languages},
    )


def write_embeddings(directory: Path, queries: dict[str, np.ndarray], candidates: dict[str, np.ndarray]) -> Path:
    """The folder that --embeddings reads."""
    directory.mkdir(parents=True, exist_ok=True)
    for part, tables in (("queries", queries), ("candidates", candidates)):
        for language, rows in tables.items():
            np.save(directory / f"{part}.{language}.npy", rows)
    return directory


def write_jsonl(directory: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """A corpus folder: language -> rows of its <lang>.jsonl."""
    directory.mkdir(parents=True)
    for language, listed in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed)
        (directory / f"{language}.jsonl").write_text(lines, encoding="utf-8")


class MemoryEmbeddings:
    """Embeddings of a task that are simply there."""

    similarity: Similarity = "dot"

    def __init__(self, queries: dict[str, np.ndarray], candidates: dict[str, np.ndarray]) -> None:
        self._tables = {"queries": queries, "candidates": candidates}

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        return self._tables[part][language][rows]


class ToyEncoder(nn.Module):
    """Mean of letter vectors after a matrix product; counts how often it runs and which texts it saw."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.letters = nn.Parameter(torch.randn(256, 24, generator=generator))
        self.project = nn.Parameter(torch.randn(24, width, generator=generator))
        self.embedding_size = width
        self.offsets = None
        self.autocast_dtype = None
        self.padded_because = "it is a toy"
        self.backbone = SimpleNamespace(config=None)
        self.seen: list[tuple[str, str]] = []
        self.forwards = 0

    def refuse_tokenless(self, texts: Iterable[str], role: Literal["query", "passage"]) -> None:
        """Every text has a token: its role's first letter."""

    def lengths(self, texts: list[str], role: Literal["query", "passage"]) -> list[int]:
        return [len(f"{role[0]}{text}".encode()) for text in texts]

    def tokenize(self, texts: list[str], role: Literal["query", "passage"]) -> dict[str, torch.Tensor]:
        self.seen += [(role, text) for text in texts]
        coded = [torch.tensor(list(f"{role[0]}{text}".encode())) for text in texts]
        return {"input_ids": nn.utils.rnn.pad_sequence(coded, batch_first=True)}

    def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
        self.forwards += 1
        ids = features["input_ids"]
        mask = (ids > 0).unsqueeze(-1)
        pooled = (self.letters[ids] * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(pooled @ self.project, dim=-1)
