// What Hopper's kernels of the loss do with a product once it is in registers. Host code can test it.

#pragma once

#include <cmath>
#include <cstdint>

#include "common/cuda/elements.h"
#include "common/cuda/hopper/layout.h"
#include "logits.cuh"

namespace hybatch::contrastive::cuda {

// Keys of groups: equal if a pair is left out because of its groups, and otherwise hardly ever. So a tile without equal
// keys needs no look at the groups themselves.
HYBATCH_HD inline uint32_t CandidateKey(int64_t group) {
  return group >= 0 ? static_cast<uint32_t>(group) : 0x80000000u;
}
HYBATCH_HD inline uint32_t QueryKey(int64_t group) { return group >= 0 ? static_cast<uint32_t>(group) : 0x80000001u; }

// To about 2^-22 of the result; below 2^-126 it is 0.
HYBATCH_HD inline float Exponential(float x) {
  constexpr float kLog2E = 1.44269504f;
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2E));
  return result;
#else
  const float result = std::exp2(x * kLog2E);
  return result < 0x1p-126f ? 0.0f : result;
#endif
}

// What exponents are taken relative to: exp(-infinity - 0) is 0 where -infinity - -infinity would not be a number.
HYBATCH_HD inline float Base(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }

// Sums over the rows of a warp, relative to the largest logit of the warp, lose what is this much smaller: such columns
// are summed up anew, relative to their own largest logit. Terms of 2^-24 of the sum are then still above 2^-126.
constexpr float kLeastColumnSum = 0x1p-80f;

// A thread's columns of a part of its accumulators are numbered 0 to 7: the column of the tile.
HYBATCH_HD inline int PartColumn(int lane, int part, int number) {
  return part * sm90::kPartColumns + number / 2 * 8 + lane % 4 * 2 + number % 2;
}
// Which of its accumulators belongs to the column and to the thread's row 0 or 1.
HYBATCH_HD constexpr int PartAccumulator(int part, int number, int row) {
  return part * sm90::kPart + number / 2 * 4 + row * 2 + number % 2;
}

// The 8 lanes that hold the same columns add up their 8 values each in three steps, in which lanes `2 half` apart in
// units of 4 swap halves of what they have: lane keeps the upper half if this is true. In the end it holds the sum of
// the column of number lane / 4.
HYBATCH_HD inline bool KeepsUpperHalf(int lane, int half) { return (lane / 4 & half) != 0; }

// Weights of a part, 16 rows and 32 columns of 2 bytes, on their way through shared memory: the rows are so far apart
// that 8 rows of 16 bytes lie in different banks.
constexpr int kPartRowBytes = 2 * sm90::kPartColumns + 16;

HYBATCH_HD constexpr int PartByte(int row, int column) { return row * kPartRowBytes + 2 * column; }

// What a log-sum-exp and its upstream gradient make of a logit; nothing where the log-sum-exp is of nothing.
struct LineShare {
  float lse;
  float weight;
};

HYBATCH_HD inline LineShare MakeShare(float lse, float weight) {
  return lse == -INFINITY ? LineShare{INFINITY, 0.0f} : LineShare{lse, weight};
}

HYBATCH_HD inline float WeightFrom(const LineShare& share, float logit) {
  return share.weight * Exponential(logit - share.lse);
}

// Weights are held in 16 bits, multiplied by a power of two that brings the largest upstream gradient into
// [2^12, 2^13): three of them fit into a half, and what is 2^-26 of it is not yet subnormal there.
HYBATCH_HD inline float WeightFactor(float largest) {
  const uint32_t exponent = BitsOfFloat(largest) >> 23;  // biased; of a float >= 0
  if (exponent == 0 || exponent >= 255) return 1.0f;                    // 0, subnormal, or not finite
  int power = 127 + 12 - static_cast<int>(exponent);
  if (power > 100) power = 100;  // the factor and its inverse stay normal
  return FloatFromBits(static_cast<uint32_t>(power + 127) << 23);
}

}  // namespace hybatch::contrastive::cuda
