// Which candidates a tile holds, and which tile is whose turn. Host code can test it.
//
// By group: candidates are put in the order of their groups (their rows stay where they are), tiles begin at group
// starts, and the last tile of a group is not full; so a tile has one group. Where groups are too many for that, tiles
// are cut from the candidates as they stand, and each candidate brings its own group.

#pragma once

#include <cstdint>

#include "common/cuda/host_device.h"

namespace hybatch::ranking::cuda {

constexpr int32_t kNoGroup = -1;      // of candidates that are counted in no group
constexpr int32_t kMixedGroups = -2;  // of a tile whose candidates bring their own

struct CandidateTile {
  int32_t first;  // place of its first candidate
  int32_t count;
  int32_t group;
};

struct CandidateTiles {
  int32_t num_candidates;
  int32_t num_bins;   // groups + 1: bin 0 holds the candidates without a group; 0: the tiles are mixed
  int32_t tile_size;
  int32_t* order;       // [num_candidates] row at each place; null: place = row
  int32_t* bin_first;   // [num_bins + 1] first place
  int32_t* bin_tile;    // [num_bins + 1] first tile
  int32_t* bin_cursor;  // [num_bins] scratch: first the bin's size, then where its next candidate goes

  HYBATCH_HD int32_t NumTiles() const {
    return num_bins > 0 ? bin_tile[num_bins] : (num_candidates + tile_size - 1) / tile_size;
  }

  HYBATCH_HD int32_t Row(int32_t place) const { return order != nullptr ? order[place] : place; }

  HYBATCH_HD CandidateTile Tile(int32_t index) const {
    if (num_bins == 0) {
      const int32_t first = index * tile_size;
      const int32_t rest = num_candidates - first;
      return {first, rest < tile_size ? rest : tile_size, kMixedGroups};
    }
    int32_t bin = 0, end = num_bins;  // the last bin whose first tile is not after this one; empty bins come earlier
    while (end - bin > 1) {
      const int32_t middle = (bin + end) / 2;
      if (bin_tile[middle] <= index) {
        bin = middle;
      } else {
        end = middle;
      }
    }
    const int32_t first = bin_first[bin] + (index - bin_tile[bin]) * tile_size;
    const int32_t rest = bin_first[bin + 1] - first;
    return {first, rest < tile_size ? rest : tile_size, bin - 1};
  }
};

HYBATCH_HD inline int32_t BinOf(int32_t group, int64_t num_groups) {
  return group >= 0 && group < num_groups ? group + 1 : 0;
}

// Work items are pairs of a query block and a candidate tile. Neighbours in this order share operands: bands of
// kBand query blocks, within a band candidate tile by candidate tile.
struct WorkItem {
  int32_t query_block;
  int32_t tile;
};

HYBATCH_HD inline WorkItem WorkItemAt(int64_t index, int32_t num_query_blocks, int32_t num_tiles) {
  constexpr int32_t kBand = 16;
  const int64_t per_band = static_cast<int64_t>(kBand) * num_tiles;
  const int32_t first_block = static_cast<int32_t>(index / per_band) * kBand;
  const int32_t rest = num_query_blocks - first_block;
  const int32_t height = rest < kBand ? rest : kBand;
  const int64_t within = index % per_band;
  return {first_block + static_cast<int32_t>(within % height), static_cast<int32_t>(within / height)};
}

}  // namespace hybatch::ranking::cuda
