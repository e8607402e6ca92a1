// Tiles of matrix products in fp32: 128 x 128 results per thread block, 8 x 8 per thread, operands through shared
// memory. An operand says what its element (line, k) is; lines and terms past its ends are zeros.

#pragma once

#include <cstdint>

#include "../contract.h"
#include "common/cuda/elements.h"
#include "generic_schedule.h"

namespace hybatch::contrastive::cuda {

constexpr int kDepth = 16;  // terms in shared memory at a time
constexpr int kStride = kTile + 4;

struct SharedTiles {
  float left[kDepth][kStride];
  float right[kDepth][kStride];
};

using Results = float[kPerThread][kPerThread];

__device__ inline int RowInTile(int i) { return PlaceInTile(static_cast<int>(threadIdx.x) / 16, i); }
__device__ inline int ColumnInTile(int j) { return PlaceInTile(static_cast<int>(threadIdx.x) % 16, j); }

// Line m, term k: element k of row m of an embedding matrix.
template <ElementKind kKind>
struct RowsOf {
  static constexpr bool kTermsAreNeighbours = true;
  const typename Element<kKind>::Stored* data;
  int64_t width;
  __device__ float At(int64_t line, int64_t k) const { return Element<kKind>::Value(data[line * width + k]); }
};

// Line m, term k: element m of row k.
template <ElementKind kKind>
struct ColumnsOf {
  static constexpr bool kTermsAreNeighbours = false;
  const typename Element<kKind>::Stored* data;
  int64_t width;
  __device__ float At(int64_t line, int64_t k) const { return Element<kKind>::Value(data[k * width + line]); }
};

template <class Operand>
__device__ void LoadOperand(const Operand& operand, int64_t first_line, int64_t num_lines, int64_t first_term,
                            int64_t num_terms, float (&to)[kDepth][kStride]) {
#pragma unroll
  for (int i = 0; i < kTile * kDepth / kThreads; ++i) {
    const int index = static_cast<int>(threadIdx.x) + i * kThreads;
    const int line = Operand::kTermsAreNeighbours ? index / kDepth : index % kTile;
    const int term = Operand::kTermsAreNeighbours ? index % kDepth : index / kTile;
    const bool inside = first_line + line < num_lines && first_term + term < num_terms;
    to[term][line] = inside ? operand.At(first_line + line, first_term + term) : 0.0f;
  }
}

// results = the product of lines first_row .. of `left` and first_column .. of `right`; the sum over k ascends.
template <class Left, class Right>
__device__ void MultiplyTile(const Left& left, int64_t first_row, int64_t num_rows, const Right& right,
                             int64_t first_column, int64_t num_columns, int64_t num_terms, SharedTiles& shared,
                             Results& results) {
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) results[i][j] = 0.0f;
  }
  for (int64_t first = 0; first < num_terms; first += kDepth) {
    __syncthreads();  // the slab before has been read
    LoadOperand(left, first_row, num_rows, first, num_terms, shared.left);
    LoadOperand(right, first_column, num_columns, first, num_terms, shared.right);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float row[kPerThread], column[kPerThread];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) row[i] = shared.left[k][RowInTile(i)];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) column[j] = shared.right[k][ColumnInTile(j)];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) results[i][j] = __fmaf_rn(row[i], column[j], results[i][j]);
      }
    }
  }
}

}  // namespace hybatch::contrastive::cuda
