#include <immintrin.h>

#include "strip_kernels_impl.h"

namespace hybatch::contrastive::cpu {
namespace {

struct Avx2Vector {
  using Register = __m256;
  static constexpr int kWidth = 8;

  static Register Load(const float* from) { return _mm256_loadu_ps(from); }
  static void Store(float* to, Register value) { _mm256_storeu_ps(to, value); }
  static Register Set(float value) { return _mm256_set1_ps(value); }
  static Register Add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register Sub(Register a, Register b) { return _mm256_sub_ps(a, b); }
  static Register Mul(Register a, Register b) { return _mm256_mul_ps(a, b); }
  static Register Fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
  static Register Min(Register a, Register b) { return _mm256_min_ps(a, b); }
  static Register Max(Register a, Register b) { return _mm256_max_ps(a, b); }

  static float LargestOf(Register value) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }

  static float SumOf(Register value) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_shuffle_ps(half, half, 1)));
  }

  static Register TimesPowerOfTwo(Register value, Register shifted) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), exponent));
  }

  static Register ZeroWhereBelow(Register x, float bound, Register value) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, Set(bound), _CMP_LT_OQ), value);
  }

  static Register ReplaceEqual(Register value, Register what, Register by) {
    return _mm256_blendv_ps(value, by, _mm256_cmp_ps(value, what, _CMP_EQ_OQ));
  }

  static Register WhereEqual(const int64_t* keys, int64_t key, Register equal, Register other) {
    const __m256i wanted = _mm256_set1_epi64x(key);
    const auto* pointer = reinterpret_cast<const __m256i*>(keys);
    const __m256 low = _mm256_castsi256_ps(_mm256_cmpeq_epi64(_mm256_loadu_si256(pointer), wanted));
    const __m256 high = _mm256_castsi256_ps(_mm256_cmpeq_epi64(_mm256_loadu_si256(pointer + 1), wanted));
    // One half of each comparison; the shuffle works within 128 bits, the permutation mends the order.
    const __m256d halves = _mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88));
    return _mm256_blendv_ps(other, equal, _mm256_castpd_ps(_mm256_permute4x64_pd(halves, 0xd8)));
  }
};

}  // namespace

const StripKernels& Avx2StripKernels() {
  static const StripKernels kernels = Strips<16, Avx2Vector>::Kernels(Avx2TileKernels());
  return kernels;
}

}  // namespace hybatch::contrastive::cpu
