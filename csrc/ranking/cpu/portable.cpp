// Any processor: plain C++ with std::fma, which is one rounding wherever it runs, in hardware or in software.

#include <cmath>

#include "rank_kernels_impl.h"

namespace hybatch::ranking::cpu {
namespace {

struct Portable {
  static constexpr int kLanes = 16;

  static float Fma(float a, float b, float c) { return std::fma(a, b, c); }

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

const RankKernels& PortableRankKernels() {
  static const RankKernels kernels = MakeRankKernels<Portable>(PortableTileKernels());
  return kernels;
}

}  // namespace hybatch::ranking::cpu
