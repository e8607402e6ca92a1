// Advanced SIMD, which every AArch64 processor has. 6 x 16 scores in 24 registers leave four for the candidates and two
// for the queries, whose values are multiplied from their lanes.

#include <arm_neon.h>

#include "tile_kernels_impl.h"

namespace hybatch {
namespace {

struct Neon {
  static constexpr int kRows = 6;
  static constexpr int kLanes = 16;
  static constexpr int kVectors = kLanes / 4;

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool resume, float* scores) {
    float32x4_t chains[kRows][kVectors];
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        chains[i][j] = resume ? vld1q_f32(scores + i * kLanes + j * 4) : vdupq_n_f32(0.0f);
      }
    }
    for (int64_t h = 0; h < depth; ++h) {
      float32x4_t row[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) row[j] = vld1q_f32(candidates + h * kLanes + j * 4);
      const float32x4_t first = vld1q_f32(queries + h * kRows);
      const float32x2_t last = vld1_f32(queries + h * kRows + 4);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        chains[0][j] = vfmaq_laneq_f32(chains[0][j], row[j], first, 0);
        chains[1][j] = vfmaq_laneq_f32(chains[1][j], row[j], first, 1);
        chains[2][j] = vfmaq_laneq_f32(chains[2][j], row[j], first, 2);
        chains[3][j] = vfmaq_laneq_f32(chains[3][j], row[j], first, 3);
        chains[4][j] = vfmaq_lane_f32(chains[4][j], row[j], last, 0);
        chains[5][j] = vfmaq_lane_f32(chains[5][j], row[j], last, 1);
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) vst1q_f32(scores + i * kLanes + j * 4, chains[i][j]);
    }
  }
};

}  // namespace

const TileKernels& NeonTileKernels() {
  static constexpr TileKernels kKernels = MakeTileKernels<Neon>();
  return kKernels;
}

}  // namespace hybatch
