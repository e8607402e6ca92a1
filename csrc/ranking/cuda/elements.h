// Embedding elements as exact fp32 values.

#pragma once

#include <cstdint>
#include <cstring>

#include "../contract.h"
#include "host_device.h"

namespace hybatch::ranking::cuda {

// How stored elements become fp32 values. kTf32: stored as fp32, read rounded to tf32.
enum class ElementKind { kFloat32, kTf32, kBFloat16, kFloat16 };

enum class Precision {
  kExact,  // one fp32 chain, on the elements as they are stored
  kTf32,   // fp32 elements rounded to tf32; tensor cores where there is a kernel for the device
  kStored  // 16-bit elements as they are stored; likewise
};

inline ElementKind KindOf(ElementType type, Precision precision) {
  switch (type) {
    case ElementType::kBFloat16:
      return ElementKind::kBFloat16;
    case ElementType::kFloat16:
      return ElementKind::kFloat16;
    default:
      return precision == Precision::kTf32 ? ElementKind::kTf32 : ElementKind::kFloat32;
  }
}

HYBATCH_HD inline float FloatFromBits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

HYBATCH_HD inline bool IsFiniteBits(uint32_t bits) { return (bits & 0x7f800000u) != 0x7f800000u; }

// To nearest, ties to even: 10 of the 23 fraction bits stay. NaN and infinity stay what they are.
HYBATCH_HD inline uint32_t RoundToTf32(uint32_t bits) {
  const uint32_t rounded = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  return IsFiniteBits(bits) ? rounded : bits;
}

HYBATCH_HD inline float FloatFromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return FloatFromBits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Read with the fraction in place the exponent is 112 too small: an exact multiplication, subnormals included.
  const float value = FloatFromBits(magnitude << 13) * FloatFromBits(0x77800000u);
  return sign != 0 ? -value : value;
}

template <ElementKind kKind>
struct Element {
  using Stored = uint32_t;
  HYBATCH_HD static float Value(Stored bits) {
    return FloatFromBits(kKind == ElementKind::kTf32 ? RoundToTf32(bits) : bits);
  }
};

template <>
struct Element<ElementKind::kBFloat16> {
  using Stored = uint16_t;
  HYBATCH_HD static float Value(Stored bits) { return FloatFromBits(static_cast<uint32_t>(bits) << 16); }
};

template <>
struct Element<ElementKind::kFloat16> {
  using Stored = uint16_t;
  HYBATCH_HD static float Value(Stored bits) {
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    return FloatFromHalf(bits);
#endif
  }
};

// Calls body with the kind as a compile-time constant.
template <class Body>
auto WithKind(ElementKind kind, Body&& body) {
  switch (kind) {
    case ElementKind::kTf32:
      return body.template operator()<ElementKind::kTf32>();
    case ElementKind::kBFloat16:
      return body.template operator()<ElementKind::kBFloat16>();
    case ElementKind::kFloat16:
      return body.template operator()<ElementKind::kFloat16>();
    default:
      return body.template operator()<ElementKind::kFloat32>();
  }
}

}  // namespace hybatch::ranking::cuda
