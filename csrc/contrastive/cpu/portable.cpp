// Any processor: one lane at a time in the source, as many as the compiler finds in the loops around it.

#include "strip_kernels_impl.h"

namespace hybatch::contrastive::cpu {
namespace {

struct PortableVector {
  using Register = float;
  static constexpr int kWidth = 1;

  static Register Load(const float* from) { return *from; }
  static void Store(float* to, Register value) { *to = value; }
  static Register Set(float value) { return value; }
  static Register Add(Register a, Register b) { return a + b; }
  static Register Sub(Register a, Register b) { return a - b; }
  static Register Mul(Register a, Register b) { return a * b; }
  // Two roundings: without hardware for one, a fused multiply-add would take a hundred times as long.
  static Register Fma(Register a, Register b, Register c) { return a * b + c; }
  static Register Min(Register a, Register b) { return a < b ? a : b; }
  static Register Max(Register a, Register b) { return a > b ? a : b; }
  static float LargestOf(Register value) { return value; }
  static float SumOf(Register value) { return value; }

  static Register TimesPowerOfTwo(Register value, Register shifted) {
    const uint32_t exponent = __builtin_bit_cast(uint32_t, shifted) << 23;
    return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, value) + exponent);
  }

  static Register ZeroWhereBelow(Register x, float bound, Register value) { return x < bound ? 0.0f : value; }
  static Register ReplaceEqual(Register value, Register what, Register by) { return value == what ? by : value; }
  static Register WhereEqual(const int64_t* keys, int64_t key, Register equal, Register other) {
    return *keys == key ? equal : other;
  }
};

}  // namespace

const StripKernels& PortableStripKernels() {
  static const StripKernels kernels = Strips<16, PortableVector>::Kernels(PortableTileKernels());
  return kernels;
}

}  // namespace hybatch::contrastive::cpu
