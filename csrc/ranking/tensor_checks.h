// Embeddings as the ranking ops take them: floating, or codes in int8 and in bits of uint8.

#pragma once

#include "common/tensor_checks.h"

namespace hybatch::ranking {

inline Matrix RankedMatrixOf(const Tensor& tensor, const char* name) {
  const bool whole_numbers = tensor.scalar_type() == ScalarType::Char;
  if (!whole_numbers && tensor.scalar_type() != ScalarType::Byte) return MatrixOf(tensor, name);
  STD_TORCH_CHECK(tensor.dim() == 2, name, " must have 2 dimensions, not ", tensor.dim());
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
  return {tensor.const_data_ptr(), whole_numbers ? ElementType::kInt8 : ElementType::kBits, tensor.size(0),
          tensor.size(1)};
}

}  // namespace hybatch::ranking
