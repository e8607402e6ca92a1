// How Hopper's kernels of the loss deal out their work: which thread block multiplies which tiles, in how many pieces
// sums are formed, how many queries' weights are held at a time. All of it follows from the shapes and the number of
// multiprocessors, so that on one device sums always have the same order. Host code can test it.

#pragma once

#include <cstdint>

#include "common/cuda/hopper/layout.h"
#include "common/cuda/host_device.h"

namespace hybatch::contrastive::cuda {

constexpr int64_t kRowsOfTile = 128;
constexpr int64_t kColumnsOfTile = sm90::kInstructionColumns;
constexpr int64_t kTermsOfSlab = sm90::kTermsOfSlab;

HYBATCH_HD constexpr int32_t Pieces(int64_t whole, int64_t piece) {
  return static_cast<int32_t>((whole + piece - 1) / piece);
}

struct Range {
  int32_t first;
  int32_t end;
};

HYBATCH_HD inline Range ShareOf(int32_t count, int32_t share, int32_t num_shares) {
  return {static_cast<int32_t>(int64_t{count} * share / num_shares),
          static_cast<int32_t>(int64_t{count} * (share + 1) / num_shares)};
}

// A thread block multiplies each row tile of a share of them by each column tile of a share. A row then has one partial
// sum per column share, a column one per row share and warpgroup.
struct TileShares {
  int32_t row_tiles;
  int32_t column_tiles;
  int32_t row_shares;
  int32_t column_shares;

  HYBATCH_HD int32_t NumBlocks() const { return row_shares * column_shares; }
  HYBATCH_HD int32_t RowShare(int32_t block) const { return block / column_shares; }
  HYBATCH_HD int32_t ColumnShare(int32_t block) const { return block % column_shares; }
  HYBATCH_HD Range RowTiles(int32_t block) const { return ShareOf(row_tiles, RowShare(block), row_shares); }
  HYBATCH_HD Range ColumnTiles(int32_t block) const { return ShareOf(column_tiles, ColumnShare(block), column_shares); }
};

// The shares with the least work for the block that has most; among those within 2% of it, the ones with the fewest
// partial sums.
inline TileShares DealTiles(int64_t rows, int64_t columns, int multiprocessors) {
  const int32_t row_tiles = Pieces(rows, kRowsOfTile), column_tiles = Pieces(columns, kColumnsOfTile);
  const auto at = [&](int32_t row_shares) {
    const int32_t rest = multiprocessors / row_shares;
    return TileShares{row_tiles, column_tiles, row_shares, rest < column_tiles ? rest : column_tiles};
  };
  const auto work = [](const TileShares& s) {
    return int64_t{Pieces(s.row_tiles, s.row_shares)} * Pieces(s.column_tiles, s.column_shares);
  };
  const auto sums = [&](const TileShares& s) { return rows * s.column_shares + 2 * columns * s.row_shares; };
  const int32_t most = row_tiles < multiprocessors ? row_tiles : multiprocessors;
  int64_t least = work(at(1));
  for (int32_t r = 2; r <= most; ++r) least = work(at(r)) < least ? work(at(r)) : least;
  TileShares best = {};
  for (int32_t r = 1; r <= most; ++r) {
    if (50 * work(at(r)) > 51 * least) continue;
    if (best.row_shares == 0 || sums(at(r)) < sums(best)) best = at(r);
  }
  return best;
}

// A product whose terms may be cut into splits. Neighbouring items are the column tiles of one row tile.
struct ProductItems {
  int32_t row_tiles;
  int32_t column_tiles;
  int32_t num_slabs;  // of terms
  int32_t num_splits;

  HYBATCH_HD int64_t NumItems() const { return int64_t{row_tiles} * column_tiles * num_splits; }
  HYBATCH_HD int32_t ColumnTile(int64_t item) const { return static_cast<int32_t>(item % column_tiles); }
  HYBATCH_HD int32_t RowTile(int64_t item) const { return static_cast<int32_t>(item / column_tiles % row_tiles); }
  HYBATCH_HD int32_t Split(int64_t item) const { return static_cast<int32_t>(item / column_tiles / row_tiles); }
  HYBATCH_HD Range Slabs(int64_t item) const { return ShareOf(num_slabs, Split(item), num_splits); }
};

constexpr int32_t kMostSplits = 16;

// As many splits as give the shortest time, in slabs; what follows a tile's product takes about as long as 4 of them.
inline ProductItems SplitProduct(int64_t rows, int64_t columns, int64_t terms, int32_t most_splits,
                                 int multiprocessors) {
  ProductItems items = {Pieces(rows, kRowsOfTile), Pieces(columns, kColumnsOfTile), Pieces(terms, kTermsOfSlab), 1};
  int64_t least = 0;
  int32_t best = 1;
  for (int32_t splits = 1; splits <= most_splits && splits <= items.num_slabs; ++splits) {
    items.num_splits = splits;
    const int64_t time = int64_t{Pieces(items.NumItems(), multiprocessors)} * (Pieces(items.num_slabs, splits) + 4);
    if (splits > 1 && time >= least) continue;
    least = time;
    best = splits;
  }
  items.num_splits = best;
  return items;
}

// Elements from one query's weights to the next one's: rows begin at multiples of 128 bytes.
HYBATCH_HD constexpr int64_t WeightStride(int64_t candidates) {
  return (candidates + kTermsOfSlab - 1) / kTermsOfSlab * kTermsOfSlab;
}

constexpr int64_t kMostSlabRows = 14 * kRowsOfTile;  // 235 MB of weights for 65,536 candidates
constexpr int64_t kMostSlabBytes = int64_t{4} << 30;

// Queries whose weights are held at a time, a multiple of a tile's rows.
inline int64_t HopperSlabRows(int64_t queries, int64_t candidates) {
  const int64_t fitting = kMostSlabBytes / (2 * WeightStride(candidates)) / kRowsOfTile * kRowsOfTile;
  int64_t rows = int64_t{Pieces(queries, kRowsOfTile)} * kRowsOfTile;
  if (rows > kMostSlabRows) rows = kMostSlabRows;
  if (rows > fitting) rows = fitting < kRowsOfTile ? kRowsOfTile : fitting;
  return rows;
}

}  // namespace hybatch::contrastive::cuda
