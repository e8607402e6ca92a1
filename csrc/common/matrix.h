// Embedding matrices, as every kernel is given them.

#pragma once

#include <cstdint>

namespace hybatch {

enum class ElementType { kFloat32, kBFloat16, kFloat16 };

// Row-major and contiguous.
struct Matrix {
  const void* data;
  ElementType type;
  int64_t rows;
  int64_t width;
};

}  // namespace hybatch
