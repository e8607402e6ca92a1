// Putting candidates into the order of their groups, on the device.

#pragma once

#include <cuda_runtime_api.h>

#include "../contract.h"
#include "candidate_tiles.h"
#include "common/cuda/runtime.h"

namespace hybatch::ranking::cuda {

// Tiles by group cost at most one more tile per group; more than twice the tiles are not worth it.
inline bool TilesByGroup(const CountAboveTask& task, int tile_size) {
  return task.num_groups + 1 <= (task.candidates.rows + tile_size - 1) / tile_size;
}

inline int64_t MostTiles(const CountAboveTask& task, int tile_size) {
  const int64_t full = (task.candidates.rows + tile_size - 1) / tile_size;
  return TilesByGroup(task, tile_size) ? full + task.num_groups + 1 : full;
}

CandidateTiles CarveCandidateTiles(const CountAboveTask& task, int tile_size, Carver& carver);
void ArrangeCandidates(const CountAboveTask& task, const CandidateTiles& tiles, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
