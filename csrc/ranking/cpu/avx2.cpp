// Thresholds and scores compared 16 at a time, in two registers.

#include <immintrin.h>

#include "rank_kernels_impl.h"

namespace hybatch::ranking::cpu {
namespace {

struct Avx2 {
  static constexpr int kLanes = 16;

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

const RankKernels& Avx2RankKernels() {
  static const RankKernels kernels = MakeRankKernels<Avx2>(Avx2TileKernels());
  return kernels;
}

}  // namespace hybatch::ranking::cpu
