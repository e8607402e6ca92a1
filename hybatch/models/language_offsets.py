"""One offset for each role and language, added to embeddings where the language of a text is known.

N texts, R roles, L languages, H embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.models.config import Role
from hybatch.models.language_codes import same_language

ROLES: tuple[Role, ...] = get_args(Role)
_SETTINGS, _WEIGHTS = "config.json", "model.safetensors"
_ROWS_AT_ONCE = 16384


class LanguageOffsets(nn.Module):
    """Moves vectors by the offset of their language and role, then scales them to unit length.

    A language that has no offset takes the mean of the offsets of all languages. `de` and `deu` are one language.

    In a folder of sentence-transformers it is the last module. `SentenceTransformer(folder, trust_remote_code=True)`
    loads it where hybatch is installed, and `encode(texts, language="de", role="passage")` applies it; without the two
    words, or without hybatch, the folder cannot be used, so that nobody takes the vectors before the offsets for those
    behind them.

    Args:
        languages: L codes.
        offsets_RLH: float32, roles in the order of `ROLES`.
    """

    forward_kwargs = frozenset({"language", "role"})
    """What sentence-transformers hands on from `encode`."""

    offsets: Tensor

    def __init__(self, languages: Sequence[str], offsets_RLH: Tensor) -> None:
        super().__init__()
        assert offsets_RLH.shape[:2] == (len(ROLES), len(languages))
        self.languages = tuple(languages)
        self.register_buffer("offsets", offsets_RLH.float())

    def unseen(self, languages: Iterable[str]) -> list[str]:
        """Those of the languages that have no offset of their own, in alphabetical order."""
        return sorted(language for language in set(languages) if self._place(language) is None)

    def moved(self, rows_NH: np.ndarray, language: str, role: Role) -> np.ndarray:
        """The vectors of texts of one language and role behind the offset: float32 [N, H], of unit length.

        Sum and length are computed in float64, row by row, so a row has the same bits whichever others are with it.
        Where the offset is zero, rows stay as they are, bit for bit.
        """
        offset_H = self._offset(language, role)
        if not offset_H.any():
            return rows_NH
        moved_NH = np.empty(rows_NH.shape, dtype=np.float32)
        for start in range(0, len(rows_NH), _ROWS_AT_ONCE):
            block = np.ascontiguousarray(rows_NH[start : start + _ROWS_AT_ONCE], dtype=np.float64) + offset_H
            lengths = np.sqrt(np.square(block).sum(axis=1, keepdims=True))
            moved_NH[start : start + _ROWS_AT_ONCE] = block / np.where(lengths > 0, lengths, 1)
        return moved_NH

    def _offset(self, language: str, role: Role) -> np.ndarray:
        """float64 [H]."""
        offsets_LH = self.offsets[ROLES.index(role)].detach().cpu().double().numpy()
        place = self._place(language)
        return offsets_LH.mean(axis=0) if place is None else offsets_LH[place]

    def _place(self, language: str) -> int | None:
        for known, asked in (
            (self.languages, language),
            (tuple(map(same_language, self.languages)), same_language(language)),
        ):
            if asked in known:
                return known.index(asked)
        return None

    def forward(
        self, features: dict[str, Any], language: str | None = None, role: Role | None = None
    ) -> dict[str, Any]:
        """As a module of sentence-transformers: move `sentence_embedding` [N, H].

        Raises:
            ValueError: language or role is not given.
        """
        if language is None or role not in ROLES:
            raise ValueError(
                "this model moves each text by the offset of its language and role: "
                "encode(texts, language='de', role='query' or 'passage')"
            )
        rows_NH = features["sentence_embedding"]
        moved_NH = torch.from_numpy(self.moved(rows_NH.detach().float().cpu().numpy(), language, role))
        return {**features, "sentence_embedding": moved_NH.to(rows_NH.device)}

    def save(self, folder: str, *_: Any, **__: Any) -> None:
        """Write it into an existing folder, as sentence-transformers asks a module to."""
        write_offsets(Path(folder), self.languages, self.state_dict())

    @classmethod
    def load(cls, folder: str, subfolder: str = "", **_: Any) -> LanguageOffsets:
        """Read it from a folder of sentence-transformers."""
        return read_offsets(Path(folder) / subfolder)


def write_offsets(folder: Path, languages: Sequence[str], weights: Mapping[str, Tensor]) -> None:
    """Write the module's files into an existing folder.

    Args:
        weights: its state_dict.
    """
    settings = {"languages": list(languages), "roles": list(ROLES)}
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file(dict(weights), folder / _WEIGHTS, metadata={"format": "pt"})


def read_offsets(folder: Path) -> LanguageOffsets:
    """Read what `write_offsets` wrote.

    Raises:
        UserError: a file is missing, damaged, or not what was written.
    """
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        languages, roles = settings["languages"], settings["roles"]
        offsets_RLH = load_file(folder / _WEIGHTS)["offsets"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{folder}: the offsets of the languages cannot be read ({error}); debias again") from error
    fits = isinstance(languages, list) and roles == list(ROLES) and offsets_RLH.ndim == 3
    if not fits or offsets_RLH.shape[:2] != (len(ROLES), len(languages)) or not offsets_RLH.isfinite().all():
        raise UserError(
            f"{folder}: {list(offsets_RLH.shape)} offsets are not finite ones of {len(ROLES)} roles and the languages "
            f"{languages}; debias again"
        )
    return LanguageOffsets(languages, offsets_RLH)
