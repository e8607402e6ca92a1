#if !defined(__clang__)  // GCC 12 warns of the undefined values in its own header.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "strip_kernels_impl.h"

namespace hybatch::contrastive::cpu {
namespace {

struct Avx512Vector {
  using Register = __m512;
  static constexpr int kWidth = 16;

  static Register Load(const float* from) { return _mm512_loadu_ps(from); }
  static void Store(float* to, Register value) { _mm512_storeu_ps(to, value); }
  static Register Set(float value) { return _mm512_set1_ps(value); }
  static Register Add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register Sub(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register Mul(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register Fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
  static Register Min(Register a, Register b) { return _mm512_min_ps(a, b); }
  static Register Max(Register a, Register b) { return _mm512_max_ps(a, b); }
  static float LargestOf(Register value) { return _mm512_reduce_max_ps(value); }
  static float SumOf(Register value) { return _mm512_reduce_add_ps(value); }

  static Register TimesPowerOfTwo(Register value, Register shifted) {
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(value), exponent));
  }

  static Register ZeroWhereBelow(Register x, float bound, Register value) {
    const __mmask16 below = _mm512_cmp_ps_mask(x, Set(bound), _CMP_LT_OQ);
    return _mm512_mask_mov_ps(value, below, _mm512_setzero_ps());
  }

  static Register ReplaceEqual(Register value, Register what, Register by) {
    return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(value, what, _CMP_EQ_OQ), by);
  }

  static Register WhereEqual(const int64_t* keys, int64_t key, Register equal, Register other) {
    const __m512i wanted = _mm512_set1_epi64(key);
    const __mmask8 low = _mm512_cmpeq_epi64_mask(_mm512_loadu_si512(keys), wanted);
    const __mmask8 high = _mm512_cmpeq_epi64_mask(_mm512_loadu_si512(keys + 8), wanted);
    return _mm512_mask_mov_ps(other, static_cast<__mmask16>(low | high << 8), equal);
  }
};

}  // namespace

const StripKernels& Avx512StripKernels() {
  static const StripKernels kernels = Strips<32, Avx512Vector>::Kernels(Avx512TileKernels());
  return kernels;
}

}  // namespace hybatch::contrastive::cpu
