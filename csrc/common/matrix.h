// Embedding matrices, as every kernel is given them.

#pragma once

#include <cstdint>

namespace hybatch {

// The last two are codes, which ranking alone takes: whole numbers, and signs in bits, whose width counts bytes.
enum class ElementType { kFloat32, kBFloat16, kFloat16, kInt8, kBits };

inline bool IsCode(ElementType type) { return type == ElementType::kInt8 || type == ElementType::kBits; }

// Row-major and contiguous.
struct Matrix {
  const void* data;
  ElementType type;
  int64_t rows;
  int64_t width;
};

}  // namespace hybatch
