// AVX-512F. 14 x 32 scores in 28 registers leave two for the candidates and one for the query's broadcast.

#include <immintrin.h>

#include "tile_kernels_impl.h"

namespace hybatch {
namespace {

struct Avx512 {
  static constexpr int kRows = 14;
  static constexpr int kLanes = 32;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores) {
    __m512 low[kRows];
    __m512 high[kRows];
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      low[i] = resume ? _mm512_load_ps(scores + i * kLanes) : _mm512_setzero_ps();
      high[i] = resume ? _mm512_load_ps(scores + i * kLanes + 16) : _mm512_setzero_ps();
    }
    for (int64_t h = 0; h < depth; ++h) {
      const __m512 candidates_low = _mm512_load_ps(candidates + h * kLanes);
      const __m512 candidates_high = _mm512_load_ps(candidates + h * kLanes + 16);
#pragma GCC unroll 14
      for (int i = 0; i < kRows; ++i) {
        const __m512 query = _mm512_set1_ps(queries[h * kRows + i]);
        low[i] = _mm512_fmadd_ps(query, candidates_low, low[i]);
        high[i] = _mm512_fmadd_ps(query, candidates_high, high[i]);
      }
    }
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      _mm512_store_ps(scores + i * kLanes, low[i]);
      _mm512_store_ps(scores + i * kLanes + 16, high[i]);
    }
  }
};

}  // namespace

const TileKernels& Avx512TileKernels() {
  static constexpr TileKernels kKernels = MakeTileKernels<Avx512>();
  return kKernels;
}

}  // namespace hybatch
