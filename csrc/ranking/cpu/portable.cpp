// Any processor: plain C++ with std::fma, which is one rounding wherever it runs, in hardware or in software.

#include <cmath>

#include "tile_kernels_impl.h"

namespace hybatch::ranking::cpu {
namespace {

struct Portable {
  static constexpr int kRows = 4;
  static constexpr int kLanes = 16;

  static float Fma(float a, float b, float c) { return std::fma(a, b, c); }

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores) {
    float chains[kRows][kLanes] = {};
    for (int i = 0; resume && i < kRows * kLanes; ++i) chains[i / kLanes][i % kLanes] = scores[i];
    for (int64_t h = 0; h < depth; ++h) {
      for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kLanes; ++j) {
          chains[i][j] = Fma(queries[h * kRows + i], candidates[h * kLanes + j], chains[i][j]);
        }
      }
    }
    for (int i = 0; i < kRows * kLanes; ++i) scores[i] = chains[i / kLanes][i % kLanes];
  }

  static uint32_t MaskAtLeast(const float* scores, float value) {
    uint32_t mask = 0;
    for (int j = 0; j < kLanes; ++j) mask |= static_cast<uint32_t>(scores[j] >= value) << j;
    return mask;
  }

  static uint32_t MaskBelow(const float* thresholds, float score) {
    uint32_t mask = 0;
    for (int j = 0; j < kWindow; ++j) mask |= static_cast<uint32_t>(thresholds[j] < score) << j;
    return mask;
  }

  static uint32_t MaskEqual(const float* thresholds, float score) {
    uint32_t mask = 0;
    for (int j = 0; j < kWindow; ++j) mask |= static_cast<uint32_t>(thresholds[j] == score) << j;
    return mask;
  }
};

}  // namespace

const TileKernels& PortableKernels() {
  static constexpr TileKernels kKernels = MakeKernels<Portable>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
