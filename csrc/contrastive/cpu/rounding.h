// Whole numbers of equal pieces.

#pragma once

#include <cstdint>

namespace hybatch::contrastive::cpu {

inline int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t value, int64_t unit) { return DivideUp(value, unit) * unit; }

}  // namespace hybatch::contrastive::cpu
