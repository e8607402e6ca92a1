// AVX2. Whole numbers: 6 x 16 scores in 12 registers, by products of pairs of 16 bits. Signs: 4 x 16, whose differing
// bits are looked up four at a time (Mula, Kurz and Lemire, arXiv 1611.07612, section 3).

#include <immintrin.h>

#include "code_tiles_impl.h"

namespace hybatch::ranking::cpu {
namespace {

const __m256i* Words(const float* panel) { return reinterpret_cast<const __m256i*>(panel); }

void StoreScores(float* scores, __m256i sums) { _mm256_store_ps(scores, _mm256_cvtepi32_ps(sums)); }

struct Int8 {
  static constexpr int kRows = 6;
  static constexpr int kLanes = 16;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    __m256i low[kRows];
    __m256i high[kRows];
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      low[i] = _mm256_load_si256(Words(candidates));
      high[i] = _mm256_load_si256(Words(candidates + 8));
    }
    for (int64_t h = 1; h < depth; ++h) {
      const __m256i candidates_low = _mm256_load_si256(Words(candidates + h * kLanes));
      const __m256i candidates_high = _mm256_load_si256(Words(candidates + h * kLanes + 8));
#pragma GCC unroll 6
      for (int i = 0; i < kRows; ++i) {
        const __m256i query = _mm256_castps_si256(_mm256_broadcast_ss(queries + h * kRows + i));
        low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(query, candidates_low));
        high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(query, candidates_high));
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      StoreScores(scores + i * kLanes, low[i]);
      StoreScores(scores + i * kLanes + 8, high[i]);
    }
  }
};

struct Bits {
  static constexpr int kRows = 4;
  static constexpr int kLanes = 16;
  static constexpr int64_t kMostWords = 31;  // whose bits a byte can count: 8 a word

  static __m256i SetBits(__m256i bits) {
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i four = _mm256_set1_epi8(0x0f);
    const __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, four));
    const __m256i high = _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(bits, 4), four));
    return _mm256_add_epi8(low, high);
  }

  // The sums of the four bytes of each lane.
  static __m256i LaneSums(__m256i bytes) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1)), _mm256_set1_epi16(1));
  }

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    __m256i differing[kRows][2] = {};
    for (int64_t begin = 1; begin < depth; begin += kMostWords) {
      const int64_t end = begin + kMostWords < depth ? begin + kMostWords : depth;
      __m256i bytes[kRows][2] = {};
      for (int64_t h = begin; h < end; ++h) {
        const __m256i low = _mm256_load_si256(Words(candidates + h * kLanes));
        const __m256i high = _mm256_load_si256(Words(candidates + h * kLanes + 8));
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
          const __m256i query = _mm256_castps_si256(_mm256_broadcast_ss(queries + h * kRows + i));
          bytes[i][0] = _mm256_add_epi8(bytes[i][0], SetBits(_mm256_xor_si256(query, low)));
          bytes[i][1] = _mm256_add_epi8(bytes[i][1], SetBits(_mm256_xor_si256(query, high)));
        }
      }
      for (int i = 0; i < 2 * kRows; ++i) {
        differing[i / 2][i % 2] = _mm256_add_epi32(differing[i / 2][i % 2], LaneSums(bytes[i / 2][i % 2]));
      }
    }
    for (int i = 0; i < 2 * kRows; ++i) {
      const __m256i begin = _mm256_load_si256(Words(candidates + i % 2 * 8));
      const __m256i twice = _mm256_slli_epi32(differing[i / 2][i % 2], 1);
      StoreScores(scores + i / 2 * kLanes + i % 2 * 8, _mm256_sub_epi32(begin, twice));
    }
  }
};

}  // namespace

const TileKernels& Avx2Int8Tiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Int8, Int8Pairs>();
  return kKernels;
}

const TileKernels& Avx2BitTiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Bits, BitWords>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
