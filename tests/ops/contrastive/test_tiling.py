"""How the logits are cut: no tile too large, none of few rows where there is room, whole rows where possible."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybatch.ops.contrastive.tiling import choose_tiling

CPU = torch.device("cpu")
KEPT_BY_THE_ALLOCATOR = 2**25
MOST_BYTES = 2**26


@given(num_rows=st.integers(0, 10**5), num_columns=st.integers(0, 10**6))
def test_tiles_cover_every_pair_once_and_stay_in_the_bound(num_rows: int, num_columns: int) -> None:
    tiling = choose_tiling(num_rows, num_columns, CPU, None)
    rows, columns = list(tiling.row_slices()), list(tiling.column_slices())
    assert sum(part.stop - part.start for part in rows) == num_rows
    assert sum(part.stop - part.start for part in columns) == num_columns
    assert tiling.rows * tiling.columns * 4 <= MOST_BYTES


@pytest.mark.parametrize("size", [512, 1024, 4096, 8192])
def test_tiles_of_usual_batches_are_such_as_the_allocator_keeps(size: int) -> None:
    tiling = choose_tiling(size, size, CPU, None)
    assert tiling.has_whole_rows
    assert tiling.rows >= 512
    assert tiling.rows * (tiling.columns + 64) * 4 < KEPT_BY_THE_ALLOCATOR


@given(num_rows=st.integers(1, 10**5), num_columns=st.integers(1, 2**18))
def test_tiles_of_whole_rows_are_even(num_rows: int, num_columns: int) -> None:
    tiling = choose_tiling(num_rows, num_columns, CPU, None)
    assert tiling.has_whole_rows
    heights = [part.stop - part.start for part in tiling.row_slices()]
    assert max(heights) - min(heights) < len(heights)
