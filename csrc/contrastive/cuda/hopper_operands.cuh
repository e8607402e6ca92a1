// Matrices of 16-bit elements as bulk copies want them.

#pragma once

#include "common/cuda/hopper/tensor_map.h"
#include "hopper.cuh"

namespace hybatch::contrastive::cuda {

// Calls body with the kind of 16-bit elements as a compile-time constant.
template <class Body>
void With16Bits(ElementType type, Body&& body) {
  if (type == ElementType::kBFloat16) {
    body.template operator()<ElementKind::kBFloat16>();
  } else {
    body.template operator()<ElementKind::kFloat16>();
  }
}

// Rows first .. first + count - 1 in boxes of box_rows rows.
inline CUtensorMap MapRows(const Matrix& matrix, ElementKind kind, int64_t first, int64_t count,
                           int box_rows) {
  const int64_t row_bytes = 2 * matrix.width;
  return sm90::RowsMap(static_cast<const char*>(matrix.data) + first * row_bytes, kind, matrix.width, count, row_bytes,
                       box_rows);
}

}  // namespace hybatch::contrastive::cuda
