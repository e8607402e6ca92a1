// The fp32 chain for single pairs of rows: a lane per pair, its rows brought in by the whole warp.

#pragma once

#include <cstdint>

#include "common/cuda/elements.h"

namespace hybatch::ranking::cuda {

constexpr int kPairWarps = 4;  // of a thread block
constexpr int kPairDepth = 32;

using PairSlab = float[32][kPairDepth + 1];

struct PairSlabs {
  PairSlab queries[kPairWarps];
  PairSlab embeddings[kPairWarps];
};

// Element `lane` of the slab of each of the warp's 32 rows; row[i] is held by lane i, negative: none.
template <ElementKind kKind>
__device__ void LoadPairSlab(const typename Element<kKind>::Stored* data, int64_t width, int64_t row, int64_t first,
                             PairSlab& slab) {
  const int lane = threadIdx.x % 32;
#pragma unroll 8
  for (int i = 0; i < 32; ++i) {
    const int64_t other = __shfl_sync(0xffffffffu, row, i);
    const bool inside = other >= 0 && first + lane < width;
    slab[i][lane] = inside ? Element<kKind>::Value(data[other * width + first + lane]) : 0.0f;
  }
}

// The score of each lane's two rows; called by whole warps, negative rows score 0.
template <ElementKind kKind>
__device__ float ScorePairs(const typename Element<kKind>::Stored* queries,
                            const typename Element<kKind>::Stored* embeddings, int64_t width, int64_t query,
                            int64_t row, PairSlabs& slabs) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float score = 0.0f;
  for (int64_t first = 0; first < width; first += kPairDepth) {
    LoadPairSlab<kKind>(queries, width, query, first, slabs.queries[warp]);
    LoadPairSlab<kKind>(embeddings, width, row, first, slabs.embeddings[warp]);
    __syncwarp();
    const int depth = width - first < kPairDepth ? static_cast<int>(width - first) : kPairDepth;
#pragma unroll 8
    for (int h = 0; h < depth; ++h) {
      score = __fmaf_rn(slabs.queries[warp][lane][h], slabs.embeddings[warp][lane][h], score);
    }
    __syncwarp();
  }
  return score;
}

}  // namespace hybatch::ranking::cuda
