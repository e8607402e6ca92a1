// Roundings that C++ has no operator for.

#include <immintrin.h>

#include <cfenv>

#include "device_model/language.h"

namespace {

// Volatile operands keep the compiler from computing before the mode is set.
template <class Compute>
float Rounded(int mode, Compute compute) {
  std::fesetround(mode);
  volatile float result = compute();
  std::fesetround(FE_TONEAREST);
  return result;
}

uint32_t HalfBits(float value) {
  if (value != value) return 0x7fff;
  return static_cast<uint32_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT)) & 0xffffu;
}

uint32_t BFloat16Bits(float value) {
  if (value != value) return 0x7fff;
  const auto bits = std::bit_cast<uint32_t>(value);
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

float Flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }

}  // namespace

float __fsub_rd(float a, float b) {
  volatile float x = a, y = b;
  return Rounded(FE_DOWNWARD, [&] { return x - y; });
}

float __fadd_ru(float a, float b) {
  volatile float x = a, y = b;
  return Rounded(FE_UPWARD, [&] { return x + y; });
}

float __double2float_ru(double value) {
  volatile double x = value;
  return Rounded(FE_UPWARD, [&] { return static_cast<float>(x); });
}

namespace device_model::ptx {

void CvtF32F16(float& value, uint16_t bits) { value = _cvtsh_ss(bits); }

void Ex2ApproxFtz(float& result, float exponent) {
  result = Flushed(static_cast<float>(std::exp2(static_cast<double>(Flushed(exponent)))));
}

void CvtRnBf16x2(uint32_t& pair, float upper, float lower) { pair = BFloat16Bits(upper) << 16 | BFloat16Bits(lower); }
void CvtRnF16x2(uint32_t& pair, float upper, float lower) { pair = HalfBits(upper) << 16 | HalfBits(lower); }

}  // namespace device_model::ptx
