// Rows of a matrix as fp32 values, for the translation units that exist once per instruction set.
//
// Each of those is compiled with flags of its own, so nothing here may end up in a function that the linker could
// share between them: all is in an unnamed namespace, and no inline function of the standard library is called.

#pragma once

#include <cstdint>

#include "common/matrix.h"

namespace hybatch {
namespace {

constexpr int64_t kChunk = 64;  // hidden positions packed at once: one source row's cache lines, one panel's 8 KB
constexpr uint32_t kInfinityBits = 0x7f800000u;

inline float FloatFromBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// Exact: every binary16 value, subnormals and NaN included, is a binary32 value.
inline float FloatFromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return FloatFromBits(sign | kInfinityBits | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return FloatFromBits(sign | __builtin_bit_cast(uint32_t, value));
  }
  return FloatFromBits(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
}

// Returns `count` values of a row from position `begin` on as fp32, in place where they are fp32 already.
inline const float* LoadRow(const Matrix& matrix, int64_t row, int64_t begin, int64_t count, float* buffer) {
  const int64_t start = row * matrix.width + begin;
  if (matrix.type == ElementType::kFloat32) return static_cast<const float*>(matrix.data) + start;
  const uint16_t* source = static_cast<const uint16_t*>(matrix.data) + start;
  if (matrix.type == ElementType::kBFloat16) {
    for (int64_t h = 0; h < count; ++h) buffer[h] = FloatFromBits(static_cast<uint32_t>(source[h]) << 16);
  } else {
    for (int64_t h = 0; h < count; ++h) buffer[h] = FloatFromHalf(source[h]);
  }
  return buffer;
}

}  // namespace
}  // namespace hybatch
