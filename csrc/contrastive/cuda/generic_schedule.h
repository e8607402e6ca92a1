// How the kernels for every architecture divide their work. Host code can test it.

#pragma once

#include <algorithm>
#include <cstdint>

#include "common/cuda/host_device.h"

namespace hybatch::contrastive::cuda {

constexpr int kTile = 128;  // rows, and columns, of a thread block's results
constexpr int kThreads = 256;
constexpr int kPerThread = 8;  // rows, and columns, of a thread's results

HYBATCH_HD constexpr int64_t Tiles(int64_t lines) { return (lines + kTile - 1) / kTile; }

// A thread's results lie in rows and columns 4 side by side, twice: vectors of shared memory, few bank conflicts.
// `thread` counts the 16 threads of a row or of a column.
HYBATCH_HD constexpr int PlaceInTile(int thread, int i) { return i / 4 * (kTile / 2) + thread * 4 + i % 4; }

constexpr int64_t kMostWidth = int64_t{65535} * kTile;  // a gradient's tiles along an embedding are a grid's y

constexpr int64_t kShares = 16;  // of the other side's tiles; fixed, so that sums have the same order on every device

HYBATCH_HD constexpr int64_t FirstTileOfShare(int64_t tiles, int64_t share) { return tiles * share / kShares; }

constexpr int64_t kSlabBytes = int64_t{256} << 20;
constexpr int64_t kMostRows = 4096;

// Queries whose weights are held at a time, a multiple of a tile's rows.
inline int64_t SlabRows(int64_t queries, int64_t candidates) {
  const int64_t fitting = kSlabBytes / 4 / std::max<int64_t>(candidates, 1) / kTile * kTile;
  return std::clamp<int64_t>(std::min(fitting, Tiles(queries) * kTile), kTile, kMostRows);
}

}  // namespace hybatch::contrastive::cuda
