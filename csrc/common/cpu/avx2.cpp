// AVX2 with FMA. 6 x 16 scores in 12 registers leave two for the candidates and one for the query's broadcast.

#include <immintrin.h>

#include "tile_kernels_impl.h"

namespace hybatch {
namespace {

struct Avx2 {
  static constexpr int kRows = 6;
  static constexpr int kLanes = 16;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores) {
    __m256 low[kRows];
    __m256 high[kRows];
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      low[i] = resume ? _mm256_load_ps(scores + i * kLanes) : _mm256_setzero_ps();
      high[i] = resume ? _mm256_load_ps(scores + i * kLanes + 8) : _mm256_setzero_ps();
    }
    for (int64_t h = 0; h < depth; ++h) {
      const __m256 candidates_low = _mm256_load_ps(candidates + h * kLanes);
      const __m256 candidates_high = _mm256_load_ps(candidates + h * kLanes + 8);
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i) {
        const __m256 query = _mm256_broadcast_ss(queries + h * kRows + i);
        low[i] = _mm256_fmadd_ps(query, candidates_low, low[i]);
        high[i] = _mm256_fmadd_ps(query, candidates_high, high[i]);
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      _mm256_store_ps(scores + i * kLanes, low[i]);
      _mm256_store_ps(scores + i * kLanes + 8, high[i]);
    }
  }
};

}  // namespace

const TileKernels& Avx2TileKernels() {
  static constexpr TileKernels kKernels = MakeTileKernels<Avx2>();
  return kKernels;
}

}  // namespace hybatch
