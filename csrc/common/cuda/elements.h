// Embedding elements as exact fp32 values.

#pragma once

#include <cstdint>
#include <cstring>

#include "common/matrix.h"
#include "host_device.h"

namespace hybatch {

// How stored elements become fp32 values. kTf32: stored as fp32, read rounded to tf32. The last two are codes, which do
// not become any (common/matrix.h).
enum class ElementKind { kFloat32, kTf32, kBFloat16, kFloat16, kInt8, kBits };

HYBATCH_HD constexpr bool IsCode(ElementKind kind) { return kind == ElementKind::kInt8 || kind == ElementKind::kBits; }

inline ElementKind StoredKind(ElementType type) {
  switch (type) {
    case ElementType::kBFloat16:
      return ElementKind::kBFloat16;
    case ElementType::kFloat16:
      return ElementKind::kFloat16;
    case ElementType::kInt8:
      return ElementKind::kInt8;
    case ElementType::kBits:
      return ElementKind::kBits;
    default:
      return ElementKind::kFloat32;
  }
}

// Of an element as the kernels that read this kind find it in memory.
HYBATCH_HD constexpr int ElementBytes(ElementKind kind) {
  return IsCode(kind) ? 1 : kind == ElementKind::kBFloat16 || kind == ElementKind::kFloat16 ? 2 : 4;
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

HYBATCH_HD inline uint32_t BitsOfFloat(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

HYBATCH_HD inline bool IsFiniteBits(uint32_t bits) { return (bits & 0x7f800000u) != 0x7f800000u; }

// To nearest, ties to even: 10 of the 23 fraction bits stay. NaN and infinity stay what they are.
HYBATCH_HD inline uint32_t RoundToTf32(uint32_t bits) {
  const uint32_t rounded = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  return IsFiniteBits(bits) ? rounded : bits;
}

// Likewise: the upper 16 bits stay.
HYBATCH_HD inline uint16_t RoundToBFloat16(uint32_t bits) {
  if (!IsFiniteBits(bits)) return static_cast<uint16_t>(bits >> 16 | ((bits & 0x7fffffu) != 0 ? 0x40u : 0u));
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Likewise: the nearest half, infinity from 65520 on.
HYBATCH_HD inline uint16_t RoundToHalf(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {
    // Between 0.5 and 1 the last place of an fp32 is that of a subnormal half: the addition rounds.
    return static_cast<uint16_t>(sign | (BitsOfFloat(FloatFromBits(magnitude) + 0.5f) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
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
  HYBATCH_HD static Stored Rounded(uint32_t fp32_bits) {
    return kKind == ElementKind::kTf32 ? RoundToTf32(fp32_bits) : fp32_bits;
  }
};

template <>
struct Element<ElementKind::kBFloat16> {
  using Stored = uint16_t;
  HYBATCH_HD static float Value(Stored bits) { return FloatFromBits(static_cast<uint32_t>(bits) << 16); }
  HYBATCH_HD static Stored Rounded(uint32_t fp32_bits) { return RoundToBFloat16(fp32_bits); }
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
  HYBATCH_HD static Stored Rounded(uint32_t fp32_bits) { return RoundToHalf(fp32_bits); }
};

template <>
struct Element<ElementKind::kInt8> {
  using Stored = uint8_t;
};

template <>
struct Element<ElementKind::kBits> {
  using Stored = uint8_t;
};

// Calls body with the kind, which is no code's, as a compile-time constant.
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

}  // namespace hybatch
