// The inner kernels of the ranking that exist once per instruction set; everything else is compiled once, for any
// processor. These work on the scores that tiles leave behind.

#pragma once

#include <cstdint>

#include "../contract.h"
#include "common/cpu/instruction_set.h"
#include "common/cpu/tile_kernels.h"

namespace hybatch::ranking::cpu {

// The comparison of a panel's scores with its queries' thresholds, for some tiles side by side.
struct PanelCount {
  const float* scores;       // [tiles, rows, lanes]
  int64_t tiles;
  int rows;                  // of a tile
  int num_queries;           // of those, in use
  uint32_t last_lanes;       // bit per lane of the last tile that is in use
  const int64_t* offsets;    // [num_queries + 1] into `thresholds`
  const float* thresholds;   // ascending within a query, NaN last; kWindow readable values follow the last
  const float* lowest;       // [num_queries] first threshold of each; infinity where a query has none
  int32_t* beaten;           // [.. - offsets[0]] += 1 at the highest threshold below a score
  // Called for each threshold that equals a score; `place` counts the lanes of all tiles.
  void (*tie)(void* context, int64_t position, int64_t place);
  void* context;
};

// One query's scores with a block of candidates, tile by tile.
struct ScoreRow {
  const float* scores;  // [lanes] of the first tile
  int64_t stride;       // to those of the next
  int64_t tiles;
  uint32_t last_lanes;  // bit per lane of the last tile that is in use
};

struct ReachingScore {
  float score;
  int32_t place;  // of the candidate in the row
};

constexpr int kWindow = 16;  // thresholds compared at once

struct RankKernels {
  TileKernels tile;
  void (*count)(const PanelCount& panel);
  // Writes, in the order of their places, the scores of the row that are at least `lowest`, or at least `best` and all
  // those before them; returns how many.
  int64_t (*reaching)(const ScoreRow& row, float lowest, float best, ReachingScore* found);
  // For queries first .. end - 1; `scratch` holds kPairScratchRows * width values.
  void (*pair_scores)(const PairScoresTask& task, int64_t first, int64_t end, float* scratch);
};

constexpr int kPairChains = 8;  // pairs scored side by side, to hide the latency of one chain
constexpr int kPairScratchRows = kPairChains + 1;

const RankKernels& PortableRankKernels();
#if defined(__x86_64__)
const RankKernels& Avx2RankKernels();
const RankKernels& Avx512RankKernels();
#elif defined(__aarch64__)
const RankKernels& NeonRankKernels();
#endif

// For embeddings of `type`. Those of codes compare scores as those of floating embeddings do.
RankKernels RankKernelsFor(InstructionSet instruction_set, ElementType type);

}  // namespace hybatch::ranking::cpu
