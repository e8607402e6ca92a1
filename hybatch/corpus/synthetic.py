"""Corpora of any size for measurements: written at the disk's speed, with no row ever a Python object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hybatch.atomic import atomic_directory
from hybatch.corpus.index.folder import CellPlaces, IndexWriter, TextPlace
from hybatch.corpus.index.table import ROWS_PER_CHUNK
from hybatch.corpus.parallel import ParallelCorpus

_DIGITS = 8
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def synthetic_corpus(
    directory: Path, *, num_examples: int, languages: Sequence[str] = ("de", "en"), passage_bytes: int = 96
) -> ParallelCorpus:
    """Open the synthetic corpus in `directory`, writing it first if the folder is not there.

    Every example has a question of about 40 bytes and a passage in every language, distinct texts throughout, and a
    passage group of its own. Row i of every language holds example i.

    Args:
        directory: the index folder; one that is there must have been written with the same arguments.
        num_examples: at most 2^32.
        languages: codes, in any order.
        passage_bytes: length of every passage in UTF-8, at least 40.
    """
    if not directory.is_dir():
        with atomic_directory(directory) as partial:
            _write(partial, num_examples, sorted(languages), passage_bytes)
    return ParallelCorpus(directory, name=f"synthetic-{num_examples}")


def _write(directory: Path, num_examples: int, languages: list[str], passage_bytes: int) -> None:
    writer = IndexWriter(directory)
    starts = range(0, num_examples, ROWS_PER_CHUNK)
    blocks = [(start, min(start + ROWS_PER_CHUNK, num_examples)) for start in starts]
    with writer.table("ids", {"id": "text"}) as table:
        for start, stop in blocks:
            table.append({"id": _numbered_texts("", "", start, stop)})
    cells = {}
    for language in languages:
        name = f"texts.{language}"
        filler = " …" * (passage_bytes // 4)
        rest = filler.encode()[: passage_bytes - len(f"{language} passage ") - _DIGITS].decode(errors="ignore")
        with writer.table(name, {"question": "text", "passage": "text"}) as table:
            for start, stop in blocks:
                question = _numbered_texts(f"{language} question ", " – où, где?", start, stop)
                passage = _numbered_texts(f"{language} passage ", rest, start, stop)
                table.append({"question": question, "passage": passage})
        cells[language] = CellPlaces(TextPlace(name, "question"), TextPlace(name, "passage"))
    mask = np.full(num_examples, (1 << len(languages)) - 1, dtype=np.uint64)
    groups = np.arange(num_examples, dtype=np.int64)
    writer.finish(
        cells, passage_groups=groups, question_mask=mask, passage_mask=mask, row_columns={}, questions_differ=True
    )


def _numbered_texts(before: str, after: str, start: int, stop: int) -> Any:
    """The texts before + hexadecimal row number + after of rows start .. stop - 1, as an Arrow array."""
    numbers = np.arange(start, stop, dtype=np.int64)
    shifts = np.arange(_DIGITS - 1, -1, -1, dtype=np.int64) * 4
    digits: NDArray[np.uint8] = _HEX[(numbers[:, None] >> shifts) & 15]
    head, tail = before.encode(), after.encode()
    width = len(head) + _DIGITS + len(tail)
    rows = np.empty((len(numbers), width), dtype=np.uint8)
    rows[:, : len(head)] = np.frombuffer(head, dtype=np.uint8)
    rows[:, len(head) : len(head) + _DIGITS] = digits
    rows[:, len(head) + _DIGITS :] = np.frombuffer(tail, dtype=np.uint8)
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * width
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(rows.reshape(-1))]
    return pa.Array.from_buffers(pa.large_string(), len(numbers), buffers)
