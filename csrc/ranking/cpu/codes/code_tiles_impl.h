// Packing of codes, instantiated by one translation unit per instruction set; what row_values_impl.h says of these
// holds here too.
//
// A `Codes` gives: kPerWord, how many elements of a row a word holds; Word, those of a query or of a candidate; Begin,
// what the scores of a candidate begin with.

#pragma once

#include "code_tiles.h"
#include "common/cpu/tile_kernels.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr int64_t kWordsPerChunk = 64;  // of one row, before the next row's: one panel's words stay in the cache

inline int32_t LoadWord(const float* panel) {
  int32_t word;
  __builtin_memcpy(&word, panel, sizeof(word));
  return word;
}

inline void StoreWord(float* panel, int32_t word) { __builtin_memcpy(panel, &word, sizeof(word)); }

// Four bytes of a row from `begin` on, zeros past its end.
inline uint32_t LoadBytes(const uint8_t* row, int64_t begin, int64_t width) {
  uint32_t bytes = 0;
  if (begin + 4 <= width) {
    __builtin_memcpy(&bytes, row + begin, 4);
  } else {
    for (int64_t h = begin; h < width; ++h) bytes |= static_cast<uint32_t>(row[h]) << 8 * (h - begin);
  }
  return bytes;
}

// Whole numbers as pairs of 16 bits, for instructions that multiply pairs and add the two products.
struct Int8Pairs {
  static constexpr int kPerWord = 2;

  static int32_t Word(const uint8_t* row, int64_t begin, int64_t width, bool) {
    const int32_t low = static_cast<int8_t>(row[begin]);
    const int32_t high = begin + 1 < width ? static_cast<int8_t>(row[begin + 1]) : 0;
    return (low & 0xffff) | static_cast<int32_t>(static_cast<uint32_t>(high) << 16);
  }

  static int32_t Begin(const uint8_t*, int64_t) { return 0; }
};

// Signs, for instructions that count the bits that differ: a score begins with the number of bits.
struct BitWords {
  static constexpr int kPerWord = 4;  // bytes

  static int32_t Word(const uint8_t* row, int64_t begin, int64_t width, bool) {
    return static_cast<int32_t>(LoadBytes(row, begin, width));
  }

  static int32_t Begin(const uint8_t*, int64_t width) { return static_cast<int32_t>(8 * width); }
};

template <class Codes, int kSide, bool kQuery>
PanelSummary PackCodes(const PanelSource& source, float* panel) {
  const int64_t width = source.matrix.width;
  const auto row_of = [&source, width](int i) {
    const int64_t row = source.order == nullptr ? source.first + i : source.order[source.first + i];
    return static_cast<const uint8_t*>(source.matrix.data) + row * width;
  };
  const int64_t words = (width + Codes::kPerWord - 1) / Codes::kPerWord;
  for (int i = 0; i < kSide; ++i) {
    StoreWord(panel + i, !kQuery && i < source.count ? Codes::Begin(row_of(i), width) : 0);
  }
  for (int64_t begin = 0; begin < words; begin += kWordsPerChunk) {
    const int64_t end = begin + kWordsPerChunk < words ? begin + kWordsPerChunk : words;
    for (int i = 0; i < kSide; ++i) {
      for (int64_t word = begin; word < end; ++word) {
        const int32_t codes = i < source.count ? Codes::Word(row_of(i), word * Codes::kPerWord, width, kQuery) : 0;
        StoreWord(panel + (1 + word) * kSide + i, codes);
      }
    }
  }
  // Codes are finite and their sums do not overflow.
  return {~0u >> (32 - kSide), 0.0f};
}

// An `Arch` gives: kRows, kLanes; Multiply, from the first position to the last.
template <class Arch, class Codes>
constexpr TileKernels MakeCodeTiles() {
  static_assert(Arch::kRows <= kMaxTileSide && Arch::kLanes <= kMaxTileSide);
  return {Arch::kRows,
          Arch::kLanes,
          &PackCodes<Codes, Arch::kRows, true>,
          &PackCodes<Codes, Arch::kLanes, false>,
          &Arch::Multiply,
          {Codes::kPerWord, 1, false}};
}

}  // namespace
}  // namespace hybatch::ranking::cpu
