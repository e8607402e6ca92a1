"""Tables give back what was written, whatever the chunks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.corpus.index import table as table_module
from hybatch.corpus.index.table import MappedTable, TableWriter

COLUMNS = {"text": "text", "signed": "int64", "mask": "uint64"}
rows_of_table = st.lists(
    st.tuples(st.text(max_size=6), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)), max_size=60
)


def write(path: Path, pieces: list[list[tuple[str, int, int]]]) -> TableWriter:
    with TableWriter(path, COLUMNS) as writer:
        for piece in pieces:
            texts, signed, masks = ([row[k] for row in piece] for k in range(3))
            writer.append(
                {"text": texts, "signed": np.array(signed, dtype=np.int64), "mask": np.array(masks, dtype=np.uint64)}
            )
    return writer


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROWS_PER_CHUNK", 8)
    monkeypatch.setattr(table_module, "_SHIFT", 3)


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=60, deadline=None)
@given(rows_of_table, st.data())
def test_any_rows_come_back_in_the_order_asked_for(rows: list[tuple[str, int, int]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(rows)))
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    start, stop = data.draw(st.integers(-5, 65)), data.draw(st.integers(-5, 65))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.arrow")
        write(path, [rows[:cut], rows[cut:]])
        table = MappedTable(path, COLUMNS, len(rows))
        index = np.array(wanted, dtype=np.int64)
        assert table.texts("text", index) == [rows[i][0] for i in wanted]
        assert table.numbers("signed", index).tolist() == [rows[i][1] for i in wanted]
        assert table.numbers("mask", index).tolist() == [rows[i][2] for i in wanted]
        assert table.numbers("mask", slice(start, stop)).tolist() == [row[2] for row in rows[start:stop]]
        assert table.numbers("signed", slice(start, stop, 3)).tolist() == [row[1] for row in rows[start:stop:3]]
        with pa.memory_map(str(path)) as source:
            assert pa.ipc.open_file(source).read_all()["text"].to_pylist() == [row[0] for row in rows]


@pytest.mark.usefixtures("small_chunks")
def test_the_digest_depends_on_the_rows_and_not_on_how_they_were_appended(tmp_path: Path) -> None:
    rows = [(f"text {i}", i, i) for i in range(30)]
    whole = write(tmp_path / "a.arrow", [rows]).digest
    assert write(tmp_path / "b.arrow", [rows[:3], rows[3:20], [], rows[20:]]).digest == whole
    assert write(tmp_path / "c.arrow", [rows[:-1]]).digest != whole
    # The same bytes, cut elsewhere.
    moved = [("text 0t", 0, 0), ("ext 1", 1, 1), *rows[2:]]
    assert write(tmp_path / "d.arrow", [moved]).digest != whole


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_outside_the_table_is_an_index_error(tmp_path: Path, row: int) -> None:
    write(tmp_path / "t.arrow", [[("a", 1, 1)] * 3])
    table = MappedTable(tmp_path / "t.arrow", COLUMNS, 3)
    with pytest.raises(IndexError):
        table.texts("text", np.array([row]))


def test_nulls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="null"), TableWriter(tmp_path / "t.arrow", {"text": "text"}) as writer:
        writer.append({"text": ["a", None]})
