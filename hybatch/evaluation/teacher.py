"""A teacher: another model that says how well a passage answers a query, a bi-encoder or a cross-encoder.

U distinct texts, P pairs, H embedding width.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from hybatch.errors import UserError
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder, Role
from hybatch.models.folder.finding import locate
from hybatch.processes import gather_objects, rank, world_size

# Bounds the rows of embeddings that are gathered to be multiplied.
_PAIRS_AT_ONCE = 65536


class Teacher(ABC):
    """A model that scores pairs; `name` is what messages call it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def scores(
        self, queries: Sequence[str], passages: Sequence[str], *, batch_size: int, progress: bool = True
    ) -> np.ndarray:
        """Score query i with passage i, each distinct text or pair once; collective under torch.distributed.

        Every process gives the same pairs. What is computed at once does not depend on the number of processes, and so
        neither do the scores.

        Args:
            batch_size: texts, of a cross-encoder pairs, that a process computes at once.

        Returns:
            float32 [P] on every process: a bi-encoder's cosine; of a cross-encoder what its head gives, before any
            activation, since a sigmoid is 1 for all that is better than good.

        Raises:
            UserError: a score is not finite, or a text leaves nothing to encode.
        """
        scores_P = self._scores(queries, passages, batch_size=batch_size, progress=progress)
        for place in np.flatnonzero(~np.isfinite(scores_P))[:1].tolist():
            raise UserError(
                f"{self.name} gives {queries[place][:80]!r} with {passages[place][:80]!r} a score that is no finite "
                f"number: {scores_P[place]}"
            )
        return scores_P

    @abstractmethod
    def _scores(
        self, queries: Sequence[str], passages: Sequence[str], *, batch_size: int, progress: bool
    ) -> np.ndarray: ...


def open_teacher(path_or_hub_id: str, *, device: str = "cpu") -> Teacher:
    """Load a teacher, whichever of the two kinds its folder holds.

    Raises:
        UserError: there is no such model or it is neither, or it is a cross-encoder and sentence-transformers is not
            installed, or one of several labels.
    """
    folder = locate(path_or_hub_id)
    if _is_cross_encoder(folder):
        return _CrossEncoder(path_or_hub_id, folder, device)
    return _BiEncoder(path_or_hub_id, device)


def _is_cross_encoder(folder: Path) -> bool:
    if _read(folder / "config_sentence_transformers.json").get("model_type") == "CrossEncoder":
        return True
    architectures = _read(folder / "config.json").get("architectures")
    return any(str(name).endswith("ForSequenceClassification") for name in architectures or ())


def _read(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where there is none: what is wrong with a file its reader says."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class _BiEncoder(Teacher):
    def __init__(self, name: str, device: str) -> None:
        super().__init__(name)
        self._encoder = Encoder.load(name).to(device)

    def _scores(
        self, queries: Sequence[str], passages: Sequence[str], *, batch_size: int, progress: bool
    ) -> np.ndarray:
        rows: list[np.ndarray] = []
        places: list[np.ndarray] = []
        sides: tuple[tuple[Role, Sequence[str]], ...] = (("query", queries), ("passage", passages))
        for role, texts in sides:
            number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            places.append(np.fromiter(map(number.__getitem__, texts), dtype=np.int64, count=len(texts)))
            rows.append(
                encode_texts(
                    self._encoder, list(number), role, batch_size=batch_size, progress=progress, model=self.name
                )
            )
        scores_P = np.empty(len(queries), dtype=np.float32)
        for start in range(0, len(queries), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            scores_P[part] = np.einsum("ph,ph->p", *(of[place[part]] for of, place in zip(rows, places, strict=True)))
        return scores_P


class _CrossEncoder(Teacher):
    def __init__(self, name: str, folder: Path, device: str) -> None:
        super().__init__(name)
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise UserError(
                f"{name}: is a cross-encoder, which sentence-transformers runs, and that is not installed; "
                "pip install 'hybatch[teacher]'"
            ) from error
        try:
            self._model = CrossEncoder(str(folder), device=device, local_files_only=True)
        except Exception as error:  # of many kinds, and each means that the folder cannot be used
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{name}: cannot be read as a cross-encoder: {reason}") from error
        if self._model.num_labels != 1:
            raise UserError(
                f"{name}: gives a pair {self._model.num_labels} labels; a teacher must give one score, "
                "as cross-encoders for retrieval do"
            )

    def _scores(
        self, queries: Sequence[str], passages: Sequence[str], *, batch_size: int, progress: bool
    ) -> np.ndarray:
        pairs = list(zip(queries, passages, strict=True))
        # The longest first: what a GPU has no memory for shows at once.
        distinct = sorted(set(pairs), key=lambda pair: (-sum(map(len, pair)), pair))
        batches = [distinct[start : start + batch_size] for start in range(0, len(distinct), batch_size)]
        mine = range(rank(), len(batches), world_size())
        found = []
        for number in tqdm(mine, desc="scoring", unit="batch", disable=not progress or rank() > 0, leave=False):
            found.append(
                self._model.predict(
                    batches[number], batch_size=batch_size, activation_fn=torch.nn.Identity(), show_progress_bar=False
                )
            )
        score: dict[tuple[str, str], float] = {}
        for source, shares in enumerate(gather_objects(found)):
            for number, scores in zip(range(source, len(batches), world_size()), shares, strict=True):
                score.update(zip(batches[number], scores.tolist(), strict=True))
        return np.fromiter(map(score.__getitem__, pairs), dtype=np.float32, count=len(pairs))
