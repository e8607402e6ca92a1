"""The embeddings of a task: where scoring gets them from, and ready ones in files.

A folder of embeddings holds `queries.<lang>.npy` and `candidates.<lang>.npy`, [rows, width], rows in the order of
the task's texts (that is, file order); instead of any of them there may be a `.raw` file of float32 values alone,
little-endian, row after row, as LASER's tools write. Q queries, D candidates, H width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal, Protocol

import numpy as np

from hybatch.atomic import atomic_directory
from hybatch.errors import UserError
from hybatch.evaluation.task import Part, TextsTask

PARTS: tuple[Part, ...] = ("queries", "candidates")
Similarity = Literal["cosine", "dot"]
Rows = slice | np.ndarray
EVERY_ROW = slice(None)
RAW = ".raw"

# Half precision keeps unit vectors within 5e-4 of length 1; such rows are used as they are, so that embeddings that
# were saved score exactly like those they were saved from.
UNIT_TOLERANCE = 1e-3
_BLOCK = 16384


class TaskEmbeddings(Protocol):
    """Embeddings of a task's queries and candidates, one language at a time."""

    similarity: Similarity

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """float32 [rows, H], rows in the order of the task's texts; their inner products are the scores.

        Small vectors are codes instead, int8 or bits in uint8 (`hybatch.ops.codes`), which ranking alone takes.

        `rows` picks some of them; a row has the same bits whichever others are asked for with it.
        """


class StoredEmbeddings:
    """Ready embeddings, memory-mapped.

    Scores are cosine similarities: rows of any other length than 1 are scaled to it. Embeddings that consist of whole
    numbers (quantised ones) are scored by their inner product instead, which is exact and keeps their ties; pass
    `similarity` to choose.

    Raises:
        UserError: a file is missing, unreadable, of the wrong shape or type, not finite, or all zero in a row where
            that has no cosine; files differ in width.
    """

    def __init__(self, directory: Path, task: TextsTask, similarity: Similarity | None = None) -> None:
        if not Path(directory).is_dir():
            raise UserError(f"--embeddings {directory}: no such folder")
        self._arrays: dict[tuple[Part, str], np.ndarray] = {}
        self._paths: dict[tuple[Part, str], Path] = {}
        whole = True
        for part in PARTS:
            for language, texts in sorted(getattr(task, part).items()):
                path = _find(Path(directory), f"{part}.{language}")
                array = _open_raw(path, len(texts)) if path.suffix == RAW else _open(path, len(texts))
                whole = _check_values(path, array) and whole
                self._arrays[part, language] = array
                self._paths[part, language] = path
        self._check_widths()
        self.similarity: Similarity = similarity or ("dot" if whole else "cosine")
        if self.similarity == "cosine":
            for key, array in self._arrays.items():
                _check_lengths(self._paths[key], array)

    @property
    def width(self) -> int:
        """H of all files."""
        return int(next(iter(self._arrays.values())).shape[1])

    def _check_widths(self) -> None:
        widths = {self._paths[key]: array.shape[1] for key, array in self._arrays.items()}
        first_path, first_width = next(iter(widths.items()))
        for path, width in widths.items():
            if width != first_width:
                raise UserError(
                    f"{path}: embeddings of width {width}, but {first_path.name} has width {first_width}; "
                    "all files must come from one encoder"
                )

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """float32 [rows, H]; scaled to unit length where the similarity is the cosine."""
        array = self._arrays[part, language][rows]
        result = np.empty(array.shape, dtype=np.float32)
        for start in range(0, len(array), _BLOCK):
            # Numpy sums along a row in an order that depends on the layout of the array.
            block = np.ascontiguousarray(array[start : start + _BLOCK])
            result[start : start + _BLOCK] = unit_rows(block) if self.similarity == "cosine" else block
        return result


def refuse_wider(dimensions: Sequence[int], width: int, name: str) -> None:
    """Refuse dimensions that vectors of this width do not have.

    Raises:
        UserError: names the width and whose it is.
    """
    beyond = [str(one) for one in dimensions if one > width]
    if beyond:
        raise UserError(f"--dimensions {' '.join(beyond)}: the vectors of {name} have {width} dimensions")


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scale rows [n, H] whose length is not 1 (within 1e-3) to length 1, in float64; leave the others as they are."""
    lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1))
    lengths[np.abs(lengths - 1) <= UNIT_TOLERANCE] = 1
    return np.asarray(rows / lengths[:, None], dtype=np.float32)


def _find(directory: Path, name: str) -> Path:
    """The file of that name; where neither or both of its forms are there, the .npy one is meant."""
    raw, array = directory / f"{name}{RAW}", directory / f"{name}.npy"
    return raw if raw.exists() and not array.exists() else array


def _open_raw(path: Path, rows: int) -> np.ndarray:
    """The size of the file and the number of texts give the width."""
    size = path.stat().st_size
    if rows == 0 or size == 0 or size % (4 * rows):
        raise UserError(
            f"{path}: {size} bytes are not {rows} rows of float32 values; expected one row per text, in file order"
        )
    return np.memmap(path, dtype="<f4", mode="r").reshape(rows, -1)


def _open(path: Path, rows: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; expected an array [{rows}, width] in numpy's .npy format") from error
    except (OSError, ValueError, EOFError) as error:
        # What begins as neither .npy nor .npz numpy takes for a pickle, and says how to load it unsafely.
        reason = "it does not begin as one" if "pickle" in str(error) else error
        raise UserError(f"{path}: not a readable .npy file ({reason}); expected an array [{rows}, width]") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: an archive, not a single array; expected [{rows}, width] in numpy's .npy format")
    if array.ndim != 2 or array.shape[0] != rows or array.shape[1] == 0:
        raise UserError(f"{path}: shape {list(array.shape)}, expected [{rows}, width]: one row per text, in file order")
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise UserError(
            f"{path}: dtype {array.dtype}, expected float16, float32 or float64 of shape [{rows}, width]; save it as "
            "one of these: numpy.save(file, array.astype('float32'))"
        )
    return array


def _check_values(path: Path, array: np.ndarray) -> bool:
    """Refuse values that are not finite in fp32; return whether all values are whole numbers."""
    whole = True
    for start in range(0, len(array), _BLOCK):
        with np.errstate(over="ignore"):
            block = array[start : start + _BLOCK].astype(np.float32)
        bad = ~np.isfinite(block)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise UserError(
                f"{path}: value {array[start + row, column]} in row {start + row}, column {column} is not a finite "
                f"number in float32; expected finite values of shape {list(array.shape)}"
            )
        whole = whole and bool((block == np.rint(block)).all())
    return whole


def _check_lengths(path: Path, array: np.ndarray) -> None:
    for start in range(0, len(array), _BLOCK):
        zero = ~(array[start : start + _BLOCK] != 0).any(axis=1)
        if zero.any():
            raise UserError(f"{path}: row {start + int(zero.argmax())} is all zeros and has no cosine similarity")


def check_save_directory(directory: Path) -> None:
    """Refuse a --save-embeddings folder that holds anything but embeddings, before the encoding begins.

    Raises:
        UserError: the folder holds other files, or is a file.
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UserError(f"--save-embeddings {directory}: is a file, not a folder")
    for entry in directory.iterdir():
        if not (entry.name.startswith(("queries.", "candidates.")) and entry.suffix == ".npy"):
            raise UserError(f"--save-embeddings {directory}: holds {entry.name}; choose a new folder for embeddings")


def save_embeddings(embeddings: TaskEmbeddings, task: TextsTask, directory: Path) -> None:
    """Write a folder that `StoredEmbeddings` reads; it appears whole or not at all and replaces an earlier one.

    Raises:
        UserError: the folder holds anything but embeddings.
        OSError: it cannot be written or the disk is full.
    """
    check_save_directory(directory)
    with atomic_directory(directory) as folder:
        for part in PARTS:
            for language in getattr(task, part):
                with open(folder / f"{part}.{language}.npy", "wb") as file:
                    write_array(file, embeddings.embeddings(part, language))


class _Sink:
    """A file that numpy does not take for one."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def write_array(file: IO[bytes], array: np.ndarray) -> None:
    """Write the bytes that numpy.save writes.

    To what it knows as a file numpy writes past Python, and of a full disk it says how many values it wrote, not why.

    Raises:
        OSError: with the system's reason.
    """
    np.save(_Sink(file), array, allow_pickle=False)
