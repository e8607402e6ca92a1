// Generic bodies of the tile kernels, instantiated by one translation unit per instruction set; what row_values_impl.h
// says of these holds here too.
//
// An `Arch` gives: kRows, kLanes; Multiply.

#pragma once

#include "row_values_impl.h"
#include "tile_kernels.h"

namespace hybatch {
namespace {

constexpr uint32_t kMagnitudeBits = 0x7fffffffu;

// As bit patterns magnitudes are ordered like integers, with infinity and NaN above all numbers.
inline uint32_t LargestMagnitudeBits(const float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t h = 0; h < count; ++h) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, values[h]) & kMagnitudeBits;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <int kSide>
PanelSummary Pack(const PanelSource& source, float* panel) {
  uint32_t largest[kSide] = {};
  float buffer[kChunk];
  for (int64_t begin = 0; begin < source.matrix.width; begin += kChunk) {
    const int64_t rest = source.matrix.width - begin;
    const int64_t count = rest < kChunk ? rest : kChunk;
    float* chunk = panel + begin * kSide;
    for (int i = 0; i < kSide; ++i) {
      if (i >= source.count) {
        for (int64_t h = 0; h < count; ++h) chunk[h * kSide + i] = 0.0f;
        continue;
      }
      const int64_t row = source.order == nullptr ? source.first + i : source.order[source.first + i];
      const float* values = LoadRow(source.matrix, row, begin, count, buffer);
      const uint32_t bits = LargestMagnitudeBits(values, count);
      largest[i] = bits > largest[i] ? bits : largest[i];
      for (int64_t h = 0; h < count; ++h) chunk[h * kSide + i] = values[h];
    }
  }
  PanelSummary summary = {0, 0.0f};
  for (int i = 0; i < kSide; ++i) {
    if (largest[i] >= kInfinityBits) continue;
    summary.finite |= 1u << i;
    const float magnitude = FloatFromBits(largest[i]);
    summary.largest = magnitude > summary.largest ? magnitude : summary.largest;
  }
  return summary;
}

template <typename Arch>
constexpr TileKernels MakeTileKernels() {
  static_assert(Arch::kRows <= kMaxTileSide && Arch::kLanes <= kMaxTileSide);
  return {Arch::kRows, Arch::kLanes, &Pack<Arch::kRows>, &Pack<Arch::kLanes>, &Arch::Multiply, {}};
}

}  // namespace
}  // namespace hybatch
