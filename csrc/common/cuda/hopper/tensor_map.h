// Tensor maps for bulk copies, through the driver that is loaded: nothing links against it.

#pragma once

#include <cuda.h>

#include <cstdint>

#include "common/cuda/elements.h"

namespace hybatch::sm90 {

// Boxes of `box_rows` rows by 128 bytes, swizzled, of a matrix whose rows begin at multiples of 16 bytes.
CUtensorMap RowsMap(const void* data, ElementKind kind, int64_t width, int64_t rows, int64_t row_bytes, int box_rows);

}  // namespace hybatch::sm90
