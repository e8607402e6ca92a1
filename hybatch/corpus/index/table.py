"""One Arrow file of an index: written in chunks of equal length, read through plain views of the mapped bytes.

Every record batch but the last holds ROWS_PER_CHUNK rows, nothing is compressed and nothing is null. So the place of
any cell follows from its row number and the file positions of the chunk's buffers, which stand in a small .npy file
beside the table: gathering random rows costs the same from one chunk and from a thousand.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

ROWS_PER_CHUNK = 1 << 16
_SHIFT = ROWS_PER_CHUNK.bit_length() - 1
_WORD = 8

Rows = NDArray[np.int64] | slice


class TableWriter:
    """Write an Arrow file of columns of kind "text" (large_string), "int64" or "uint64".

    Use as a context manager; `append` takes columns of any length, so that bulk data cost one copy and no Python
    objects. `digest` names the content (not the file) once the block has ended.
    """

    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self.path = path
        self.columns = dict(columns)
        types = {"text": pa.large_string(), "int64": pa.int64(), "uint64": pa.uint64()}
        self._schema = pa.schema([pa.field(name, types[kind], nullable=False) for name, kind in columns.items()])
        self._pending: list[Any] = []
        self._num_pending = 0
        self._hash = xxhash.xxh3_128()
        self.num_rows = 0

    def __enter__(self) -> TableWriter:
        self._writer = pa.ipc.new_file(str(self.path), self._schema)
        return self

    def append(self, columns: Mapping[str, Any]) -> None:
        """Add rows: per column a list, a NumPy array or an Arrow array, all of one length, without nulls."""
        arrays = [pa.array(columns[field.name], type=field.type) for field in self._schema]
        if any(array.null_count for array in arrays):
            raise ValueError("a column of a table holds a null")
        self._pending.append(pa.Table.from_arrays(arrays, schema=self._schema))
        self._num_pending += len(arrays[0])
        self.num_rows += len(arrays[0])
        if self._num_pending >= ROWS_PER_CHUNK:
            self._flush(self._num_pending // ROWS_PER_CHUNK * ROWS_PER_CHUNK)

    def _flush(self, num_rows: int) -> None:
        pending = pa.concat_tables(self._pending)
        for start in range(0, num_rows, ROWS_PER_CHUNK):
            chunk = pending.slice(start, min(ROWS_PER_CHUNK, num_rows - start)).combine_chunks()
            for batch in chunk.to_batches():
                self._writer.write_batch(batch)
                for column in batch.columns:
                    self._update_digest(column)
        self._pending = [pending.slice(num_rows)]
        self._num_pending -= num_rows

    def _update_digest(self, column: Any) -> None:
        start, length = column.offset, len(column)
        if column.type != pa.large_string():
            self._hash.update(np.frombuffer(column.buffers()[1], dtype=np.int64)[start : start + length].tobytes())
            return
        _, offsets_buffer, data = column.buffers()
        offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[start : start + length + 1]
        self._hash.update((offsets - offsets[0]).tobytes())
        if data is not None:
            self._hash.update(memoryview(data)[offsets[0] : offsets[-1]])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # The error at hand matters, not that the abandoned file cannot be ended (say, on a full disk).
            try:
                self._writer.close()
            except OSError as second:
                if error is not None:
                    error.add_note(f"{self.path} could not be closed either: {second}")
            return
        if self._num_pending:
            self._flush(self._num_pending)
        self._writer.close()
        self.digest = self._hash.hexdigest()
        with io.BytesIO() as memory:
            np.save(memory, _buffer_positions(self.path))
            _buffer_file(self.path).write_bytes(memory.getvalue())

    def describe(self) -> dict[str, Any]:
        """What MappedTable needs to know besides the file."""
        return {"columns": self.columns, "num_rows": self.num_rows, "digest": self.digest}


def files_of_table(path: Path) -> tuple[Path, Path]:
    """Every file of the table whose Arrow file is `path`."""
    return path, _buffer_file(path)


def _buffer_file(path: Path) -> Path:
    return path.with_suffix(".buffers.npy")


def _buffer_positions(path: Path) -> NDArray[np.int64]:
    """File positions, in bytes, of offsets and data (text) or values (numbers): [chunks, sum of buffers a column]."""
    with pa.memory_map(str(path)) as source:
        base = source.read_buffer().address
        reader = pa.ipc.open_file(source)
        rows = []
        for index in range(reader.num_record_batches):
            positions = []
            for column in reader.get_batch(index).columns:
                for buffer in column.buffers()[1:]:
                    # An absent data buffer belongs to a chunk of empty texts, which never read from it.
                    positions.append(0 if buffer is None or buffer.size == 0 else buffer.address - base)
            rows.append(positions)
        width = sum(2 if field.type == pa.large_string() else 1 for field in reader.schema)
    return np.array(rows, dtype=np.int64).reshape(-1, width)


class MappedTable:
    """Read a table written by TableWriter without loading it: memory is that of the pages touched, all of the file's.

    Args:
        path: the Arrow file.
        columns: name -> kind, as given to the writer.
        num_rows: rows in all chunks together.
    """

    def __init__(self, path: Path, columns: Mapping[str, str], num_rows: int) -> None:
        self.num_rows = num_rows
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._bytes = memoryview(mapped)
        self._words = np.frombuffer(mapped, dtype=np.int64, count=len(mapped) // _WORD)
        positions = np.load(_buffer_file(path), mmap_mode="r")
        self._kinds = dict(columns)
        self._buffers: dict[str, tuple[NDArray[np.int64], ...]] = {}
        first = 0
        for name, kind in columns.items():
            width = 2 if kind == "text" else 1
            self._buffers[name] = tuple(np.ascontiguousarray(column) for column in positions.T[first : first + width])
            first += width

    def numbers(self, column: str, rows: Rows) -> NDArray[Any]:
        """Values of a number column: [n] int64 or uint64, a copy. A slice costs O(its length).

        Raises:
            IndexError: a row is negative or not below `num_rows`.
        """
        (values_at,) = self._buffers[column]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.num_rows)
            if step == 1:
                return self._run(values_at, start, max(start, stop)).view(self._kinds[column])
            rows = np.arange(start, stop, step, dtype=np.int64)
        chunks, within = self._split(rows)
        return self._words[values_at[chunks] // _WORD + within].view(self._kinds[column])

    def texts(self, column: str, rows: NDArray[np.int64]) -> list[str]:
        """Texts of `rows` [n] in that order.

        Raises:
            IndexError: a row is negative or not below `num_rows`.
        """
        offsets_at, data_at = self._buffers[column]
        chunks, within = self._split(rows)
        offsets = offsets_at[chunks] // _WORD + within
        data = data_at[chunks]
        starts = (data + self._words[offsets]).tolist()
        ends = (data + self._words[offsets + 1]).tolist()
        content = self._bytes
        return [str(content[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]

    def digest(self) -> str:
        """The digest that TableWriter gave the content, of what is read now."""
        content = xxhash.xxh3_128()
        for chunk, first in enumerate(range(0, self.num_rows, ROWS_PER_CHUNK)):
            length = min(ROWS_PER_CHUNK, self.num_rows - first)
            for places in self._buffers.values():
                start = int(places[0][chunk]) // _WORD
                if len(places) == 1:
                    content.update(self._words[start : start + length].tobytes())
                    continue
                offsets = self._words[start : start + length + 1]
                content.update((offsets - offsets[0]).tobytes())
                data = int(places[1][chunk])
                content.update(self._bytes[data + int(offsets[0]) : data + int(offsets[-1])])
        return content.hexdigest()

    def _split(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if rows.size and (rows.min() < 0 or rows.max() >= self.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} asked of a table of {self.num_rows}")
        return rows >> _SHIFT, rows & (ROWS_PER_CHUNK - 1)

    def _run(self, values_at: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
        result = np.empty(stop - start, dtype=np.int64)
        for row in range(start - start % ROWS_PER_CHUNK, stop, ROWS_PER_CHUNK):
            low, high = max(row, start), min(row + ROWS_PER_CHUNK, stop)
            at = values_at[row >> _SHIFT] // _WORD - row
            result[low - start : high - start] = self._words[at + low : at + high]
        return result
