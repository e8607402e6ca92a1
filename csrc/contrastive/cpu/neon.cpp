#include <arm_neon.h>

#include "strip_kernels_impl.h"

namespace hybatch::contrastive::cpu {
namespace {

struct NeonVector {
  using Register = float32x4_t;
  static constexpr int kWidth = 4;

  static Register Load(const float* from) { return vld1q_f32(from); }
  static void Store(float* to, Register value) { vst1q_f32(to, value); }
  static Register Set(float value) { return vdupq_n_f32(value); }
  static Register Add(Register a, Register b) { return vaddq_f32(a, b); }
  static Register Sub(Register a, Register b) { return vsubq_f32(a, b); }
  static Register Mul(Register a, Register b) { return vmulq_f32(a, b); }
  static Register Fma(Register a, Register b, Register c) { return vfmaq_f32(c, a, b); }
  // The processor's own minimum and maximum are NaN where either operand is.
  static Register Min(Register a, Register b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static Register Max(Register a, Register b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static float LargestOf(Register value) { return vmaxvq_f32(value); }
  static float SumOf(Register value) { return vaddvq_f32(value); }

  static Register TimesPowerOfTwo(Register value, Register shifted) {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23);
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(value), exponent));
  }

  static Register ZeroWhereBelow(Register x, float bound, Register value) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(value), vcltq_f32(x, Set(bound))));
  }

  static Register ReplaceEqual(Register value, Register what, Register by) {
    return vbslq_f32(vceqq_f32(value, what), by, value);
  }

  static Register WhereEqual(const int64_t* keys, int64_t key, Register equal, Register other) {
    const int64x2_t wanted = vdupq_n_s64(key);
    const uint64x2_t low = vceqq_s64(vld1q_s64(keys), wanted);
    const uint64x2_t high = vceqq_s64(vld1q_s64(keys + 2), wanted);
    return vbslq_f32(vcombine_u32(vmovn_u64(low), vmovn_u64(high)), equal, other);
  }
};

}  // namespace

const StripKernels& NeonStripKernels() {
  static const StripKernels kernels = Strips<16, NeonVector>::Kernels(NeonTileKernels());
  return kernels;
}

}  // namespace hybatch::contrastive::cpu
