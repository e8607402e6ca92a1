// The inner kernels that exist once per instruction set. Everything else is compiled once, for any processor.
//
// A tile is `rows` queries by `lanes` candidates. Its operands are panels: all values of `rows` (or `lanes`) vectors,
// interleaved so that the values of one hidden position lie side by side, padded with zero vectors.

#pragma once

#include <cstdint>

#include "../contract.h"
#include "instruction_set.h"

namespace hybatch::ranking::cpu {

constexpr int kMaxTileSide = 32;  // a tile's queries or candidates fit the bits of a uint32_t

// Up to `kMaxTileSide` vectors to be packed: rows order[first], order[first + 1], ... of the matrix.
struct PanelSource {
  Matrix matrix;
  const int32_t* order;  // null: the identity
  int64_t first;
  int count;
};

struct PanelSummary {
  uint32_t finite;  // bit i: vector i holds neither NaN nor infinity
  float largest;    // magnitude, over the vectors that are finite
};

// The comparison of one tile of scores with its queries' thresholds.
struct TileCount {
  const float* scores;       // [rows, lanes]
  int num_queries;           // rows in use
  uint32_t lanes_in_use;     // bit per lane
  const int64_t* offsets;    // [num_queries + 1] into `thresholds`
  const float* thresholds;   // ascending within a query, NaN last; kWindow readable values follow the last
  const float* lowest;       // [num_queries] first threshold of each; infinity where a query has none
  int32_t* beaten;           // [.. - offsets[0]] += 1 at the highest threshold below a score
  void (*tie)(void* context, int64_t position, int lane);  // called for each threshold that equals a score
  void* context;
};

constexpr int kWindow = 16;  // thresholds compared at once

struct TileKernels {
  int rows;
  int lanes;
  PanelSummary (*pack_queries)(const PanelSource& source, float* panel);
  PanelSummary (*pack_candidates)(const PanelSource& source, float* panel);
  // Extends every score's chain by `depth` positions; a chain begins at +0 unless `resume`.
  void (*multiply)(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores);
  void (*count)(const TileCount& tile);
  // For queries first .. end - 1; `scratch` holds kPairScratchRows * width values.
  void (*pair_scores)(const PairScoresTask& task, int64_t first, int64_t end, float* scratch);
};

constexpr int kPairChains = 8;  // pairs scored side by side, to hide the latency of one chain
constexpr int kPairScratchRows = kPairChains + 1;

const TileKernels& PortableKernels();
#if defined(__x86_64__)
const TileKernels& Avx2Kernels();
const TileKernels& Avx512Kernels();
#endif

const TileKernels& KernelsFor(InstructionSet instruction_set);

}  // namespace hybatch::ranking::cpu
