// AVX-512 VNNI, which multiplies four bytes at once, one side unsigned and one signed. 14 x 32 scores in 28 registers.

#include <immintrin.h>

#include "code_tiles_impl.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr __mmask16 kAll = 0xffff;  // GCC 12 warns of the intrinsic without a mask

// Queries are moved up by 128, to be unsigned; what that adds to a candidate's scores is taken off where they begin.
struct Quads {
  static constexpr int kPerWord = 4;

  static int32_t Word(const uint8_t* row, int64_t begin, int64_t width, bool is_query) {
    return static_cast<int32_t>(LoadBytes(row, begin, width) ^ (is_query ? 0x80808080u : 0));
  }

  static int32_t Begin(const uint8_t* row, int64_t width) {
    int32_t sum = 0;
    for (int64_t h = 0; h < width; ++h) sum += static_cast<int8_t>(row[h]);
    return -128 * sum;
  }
};

struct Int8 {
  static constexpr int kRows = 14;
  static constexpr int kLanes = 32;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    __m512i low[kRows];
    __m512i high[kRows];
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      low[i] = _mm512_load_si512(candidates);
      high[i] = _mm512_load_si512(candidates + 16);
    }
    for (int64_t h = 1; h < depth; ++h) {
      const __m512i candidates_low = _mm512_load_si512(candidates + h * kLanes);
      const __m512i candidates_high = _mm512_load_si512(candidates + h * kLanes + 16);
#pragma GCC unroll 14
      for (int i = 0; i < kRows; ++i) {
        const __m512i query = _mm512_set1_epi32(LoadWord(queries + h * kRows + i));
        low[i] = _mm512_dpbusd_epi32(low[i], query, candidates_low);
        high[i] = _mm512_dpbusd_epi32(high[i], query, candidates_high);
      }
    }
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      _mm512_store_ps(scores + i * kLanes, _mm512_maskz_cvtepi32_ps(kAll, low[i]));
      _mm512_store_ps(scores + i * kLanes + 16, _mm512_maskz_cvtepi32_ps(kAll, high[i]));
    }
  }
};

}  // namespace

const TileKernels& Avx512VnniInt8Tiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Int8, Quads>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
