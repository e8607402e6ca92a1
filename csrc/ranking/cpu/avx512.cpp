// Thresholds compared 16 at a time, scores 32.

#include <immintrin.h>

#include "rank_kernels_impl.h"

namespace hybatch::ranking::cpu {
namespace {

struct Avx512 {
  static constexpr int kLanes = 32;

  static uint32_t MaskAtLeast(const float* scores, float value) {
    const __m512 bound = _mm512_set1_ps(value);
    const uint32_t low = _mm512_cmp_ps_mask(_mm512_load_ps(scores), bound, _CMP_GE_OQ);
    const uint32_t high = _mm512_cmp_ps_mask(_mm512_load_ps(scores + 16), bound, _CMP_GE_OQ);
    return low | high << 16;
  }

  static uint32_t MaskBelow(const float* thresholds, float score) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(thresholds), _mm512_set1_ps(score), _CMP_LT_OQ);
  }

  static uint32_t MaskEqual(const float* thresholds, float score) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(thresholds), _mm512_set1_ps(score), _CMP_EQ_OQ);
  }

  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

}  // namespace

const RankKernels& Avx512RankKernels() {
  static const RankKernels kernels = MakeRankKernels<Avx512>(Avx512TileKernels());
  return kernels;
}

}  // namespace hybatch::ranking::cpu
