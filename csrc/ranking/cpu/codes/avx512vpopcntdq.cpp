// AVX-512 VPOPCNTDQ, which counts the bits of every lane. 12 x 32 scores in 24 registers.

#include <immintrin.h>

#include "code_tiles_impl.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr __mmask16 kAll = 0xffff;  // GCC 12 warns of the intrinsic without a mask

struct Bits {
  static constexpr int kRows = 12;
  static constexpr int kLanes = 32;

  static __m512i Differing(__m512i query, __m512i candidates) {
    return _mm512_popcnt_epi32(_mm512_xor_si512(query, candidates));
  }

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    __m512i low[kRows];
    __m512i high[kRows];
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) low[i] = high[i] = _mm512_setzero_si512();
    for (int64_t h = 1; h < depth; ++h) {
      const __m512i candidates_low = _mm512_load_si512(candidates + h * kLanes);
      const __m512i candidates_high = _mm512_load_si512(candidates + h * kLanes + 16);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; ++i) {
        const __m512i query = _mm512_set1_epi32(LoadWord(queries + h * kRows + i));
        low[i] = _mm512_add_epi32(low[i], Differing(query, candidates_low));
        high[i] = _mm512_add_epi32(high[i], Differing(query, candidates_high));
      }
    }
#pragma GCC unroll 12
    for (int i = 0; i < kRows; ++i) {
      StoreScores(scores + i * kLanes, _mm512_load_si512(candidates), low[i]);
      StoreScores(scores + i * kLanes + 16, _mm512_load_si512(candidates + 16), high[i]);
    }
  }

  static void StoreScores(float* scores, __m512i begin, __m512i differing) {
    const __m512i sums = _mm512_sub_epi32(begin, _mm512_add_epi32(differing, differing));
    _mm512_store_ps(scores, _mm512_maskz_cvtepi32_ps(kAll, sums));
  }
};

}  // namespace

const TileKernels& Avx512VpopcntdqBitTiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Bits, BitWords>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
