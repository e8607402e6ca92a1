// Thresholds and scores compared 16 at a time, in four registers.

#include <arm_neon.h>

#include "rank_kernels_impl.h"

namespace hybatch::ranking::cpu {
namespace {

struct Neon {
  static constexpr int kLanes = 16;

  // Bits of the 16 values for which `compare` gives ones.
  template <typename Compare>
  static uint32_t Mask(const float* values, Compare compare) {
    static constexpr uint8_t kBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x8_t bits = vld1_u8(kBits);
    uint32_t mask = 0;
    for (int half = 0; half < 2; ++half) {
      const uint32x4_t first = compare(vld1q_f32(values + half * 8));
      const uint32x4_t second = compare(vld1q_f32(values + half * 8 + 4));
      const uint8x8_t bytes = vmovn_u16(vcombine_u16(vmovn_u32(first), vmovn_u32(second)));
      mask |= static_cast<uint32_t>(vaddv_u8(vand_u8(bytes, bits))) << half * 8;
    }
    return mask;
  }

  static uint32_t MaskAtLeast(const float* scores, float value) {
    const float32x4_t bound = vdupq_n_f32(value);
    return Mask(scores, [bound](float32x4_t values) { return vcgeq_f32(values, bound); });
  }

  static uint32_t MaskBelow(const float* thresholds, float score) {
    const float32x4_t bound = vdupq_n_f32(score);
    return Mask(thresholds, [bound](float32x4_t values) { return vcltq_f32(values, bound); });
  }

  static uint32_t MaskEqual(const float* thresholds, float score) {
    const float32x4_t bound = vdupq_n_f32(score);
    return Mask(thresholds, [bound](float32x4_t values) { return vceqq_f32(values, bound); });
  }

  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};

}  // namespace

const RankKernels& NeonRankKernels() {
  static const RankKernels kernels = MakeRankKernels<Neon>(NeonTileKernels());
  return kernels;
}

}  // namespace hybatch::ranking::cpu
