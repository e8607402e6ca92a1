// AVX2 with FMA. 6 x 16 scores in 12 registers leave two for the candidates and one for the query's broadcast.

#include <immintrin.h>

#include "tile_kernels_impl.h"

namespace hybatch::ranking::cpu {
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

  // Bits of the 16 values for which `value PREDICATE bound` holds.
  template <int kPredicate>
  static uint32_t Mask(const float* values, float bound) {
    const __m256 other = _mm256_set1_ps(bound);
    const uint32_t low = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values), other, kPredicate));
    const uint32_t high = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(values + 8), other, kPredicate));
    return low | high << 8;
  }

  static uint32_t MaskAtLeast(const float* scores, float value) { return Mask<_CMP_GE_OQ>(scores, value); }
  static uint32_t MaskBelow(const float* thresholds, float score) { return Mask<_CMP_LT_OQ>(thresholds, score); }
  static uint32_t MaskEqual(const float* thresholds, float score) { return Mask<_CMP_EQ_OQ>(thresholds, score); }
  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

}  // namespace

const TileKernels& Avx2Kernels() {
  static constexpr TileKernels kKernels = MakeKernels<Avx2>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
