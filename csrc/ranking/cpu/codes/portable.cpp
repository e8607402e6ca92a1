// Any processor: plain C++.

#include "code_tiles_impl.h"

namespace hybatch::ranking::cpu {
namespace {

// Codes of a tile of 4 x 16 by `Word`: Product gives what a word of a query and one of a candidate add to a score.
template <class Word>
struct Portable {
  static constexpr int kRows = 4;
  static constexpr int kLanes = 16;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    int32_t sums[kRows][kLanes];
    for (int i = 0; i < kRows * kLanes; ++i) sums[i / kLanes][i % kLanes] = LoadWord(candidates + i % kLanes);
    for (int64_t h = 1; h < depth; ++h) {
      int32_t words[kLanes];
      __builtin_memcpy(words, candidates + h * kLanes, sizeof(words));
      for (int i = 0; i < kRows; ++i) {
        const int32_t query = LoadWord(queries + h * kRows + i);
        for (int j = 0; j < kLanes; ++j) sums[i][j] += Word::Product(query, words[j]);
      }
    }
    for (int i = 0; i < kRows * kLanes; ++i) scores[i] = static_cast<float>(sums[i / kLanes][i % kLanes]);
  }
};

struct PairProduct {
  static int32_t Product(int32_t query, int32_t candidate) {
    return static_cast<int16_t>(query) * static_cast<int16_t>(candidate) + (query >> 16) * (candidate >> 16);
  }
};

struct BitProduct {
  // Twice the bits that differ, counted in ever larger fields (Warren, "Hacker's Delight", section 5-1).
  static int32_t Product(int32_t query, int32_t candidate) {
    uint32_t bits = static_cast<uint32_t>(query ^ candidate);
    bits -= bits >> 1 & 0x55555555u;
    bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0fu;
    bits += bits >> 8;
    bits += bits >> 16;
    return -2 * static_cast<int32_t>(bits & 0x3f);
  }
};

}  // namespace

const TileKernels& PortableInt8Tiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Portable<PairProduct>, Int8Pairs>();
  return kKernels;
}

const TileKernels& PortableBitTiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Portable<BitProduct>, BitWords>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
