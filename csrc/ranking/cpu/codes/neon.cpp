// Advanced SIMD. Whole numbers: 4 x 16 scores, by products of 16 bits whose pairs are added. Signs: 4 x 16.

#include <arm_neon.h>

#include "code_tiles_impl.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr int kVectors = 4;  // of 4 lanes

int32x4_t Load(const float* panel) { return vreinterpretq_s32_f32(vld1q_f32(panel)); }

int32x4_t Broadcast(const float* panel) { return vreinterpretq_s32_f32(vld1q_dup_f32(panel)); }

struct Int8 {
  static constexpr int kRows = 4;
  static constexpr int kLanes = 16;

  static int32x4_t Product(int16x8_t query, int16x8_t candidate) {
    const int32x4_t low = vmull_s16(vget_low_s16(query), vget_low_s16(candidate));
    return vpaddq_s32(low, vmull_high_s16(query, candidate));
  }

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    int32x4_t sums[kRows][kVectors];
#pragma GCC unroll 16
    for (int n = 0; n < kRows * kVectors; ++n) sums[n / kVectors][n % kVectors] = Load(candidates + n % kVectors * 4);
    for (int64_t h = 1; h < depth; ++h) {
      int16x8_t row[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) row[j] = vreinterpretq_s16_s32(Load(candidates + h * kLanes + j * 4));
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i) {
        const int16x8_t query = vreinterpretq_s16_s32(Broadcast(queries + h * kRows + i));
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sums[i][j] = vaddq_s32(sums[i][j], Product(query, row[j]));
      }
    }
    for (int n = 0; n < kRows * kVectors; ++n) vst1q_f32(scores + n * 4, vcvtq_f32_s32(sums[n / kVectors][n % kVectors]));
  }
};

struct Bits {
  static constexpr int kRows = 4;
  static constexpr int kLanes = 16;
  static constexpr int64_t kMostWords = 31;  // whose bits a byte can count: 8 a word

  static void Multiply(const float* queries, const float* candidates, int64_t depth, bool, float* scores) {
    uint32x4_t differing[kRows][kVectors] = {};
    for (int64_t begin = 1; begin < depth; begin += kMostWords) {
      const int64_t end = begin + kMostWords < depth ? begin + kMostWords : depth;
      uint8x16_t bytes[kRows][kVectors] = {};
      for (int64_t h = begin; h < end; ++h) {
#pragma GCC unroll 4
        for (int i = 0; i < kRows; ++i) {
          const int32x4_t query = Broadcast(queries + h * kRows + i);
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) {
            const int32x4_t bits = veorq_s32(query, Load(candidates + h * kLanes + j * 4));
            bytes[i][j] = vaddq_u8(bytes[i][j], vcntq_u8(vreinterpretq_u8_s32(bits)));
          }
        }
      }
      for (int n = 0; n < kRows * kVectors; ++n) {
        uint32x4_t& sums = differing[n / kVectors][n % kVectors];
        sums = vpadalq_u16(sums, vpaddlq_u8(bytes[n / kVectors][n % kVectors]));
      }
    }
    for (int n = 0; n < kRows * kVectors; ++n) {
      const int32x4_t twice = vreinterpretq_s32_u32(vshlq_n_u32(differing[n / kVectors][n % kVectors], 1));
      vst1q_f32(scores + n * 4, vcvtq_f32_s32(vsubq_s32(Load(candidates + n % kVectors * 4), twice)));
    }
  }
};

}  // namespace

const TileKernels& NeonInt8Tiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Int8, Int8Pairs>();
  return kKernels;
}

const TileKernels& NeonBitTiles() {
  static constexpr TileKernels kKernels = MakeCodeTiles<Bits, BitWords>();
  return kKernels;
}

}  // namespace hybatch::ranking::cpu
