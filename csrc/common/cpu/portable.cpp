// Any processor: plain C++ with std::fma, which is one rounding wherever it runs, in hardware or in software.

#include <cmath>

#include "tile_kernels_impl.h"

namespace hybatch {
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
};

}  // namespace

const TileKernels& PortableTileKernels() {
  static constexpr TileKernels kKernels = MakeTileKernels<Portable>();
  return kKernels;
}

}  // namespace hybatch
