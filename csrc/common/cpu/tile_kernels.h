// Products of tiles, the inner kernels that both ops stand on and that exist once per instruction set.
//
// A tile is `rows` queries by `lanes` candidates. Its operands are panels: all values of `rows` (or `lanes`) vectors,
// interleaved so that the values of one hidden position lie side by side, padded with zero vectors.

#pragma once

#include <cstdint>

#include "common/matrix.h"

namespace hybatch {

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

// How the values of a vector lie in a panel.
struct PanelShape {
  int values_per_position = 1;
  int head_positions = 0;  // before those of the values
  bool resumes = true;     // `multiply` may take the positions in several calls
};

struct TileKernels {
  int rows;
  int lanes;
  PanelSummary (*pack_queries)(const PanelSource& source, float* panel);
  PanelSummary (*pack_candidates)(const PanelSource& source, float* panel);
  // Extends every score's chain by `depth` positions; a chain begins at +0 unless `resume`.
  void (*multiply)(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores);
  PanelShape shape;

  // Positions of a panel of vectors of `width` values.
  int64_t Positions(int64_t width) const {
    return shape.head_positions + (width + shape.values_per_position - 1) / shape.values_per_position;
  }
};

const TileKernels& PortableTileKernels();
#if defined(__x86_64__)
const TileKernels& Avx2TileKernels();
const TileKernels& Avx512TileKernels();
#elif defined(__aarch64__)
const TileKernels& NeonTileKernels();
#endif

}  // namespace hybatch
