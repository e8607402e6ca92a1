// Checks that every device's registration makes before a kernel sees a pointer. Each message names the argument.

#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "matrix.h"

namespace hybatch {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void CheckTensor(const Tensor& tensor, const char* name, ScalarType type,
                        std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(tensor.scalar_type() == type, name, " has the wrong dtype");
  STD_TORCH_CHECK(tensor.dim() == static_cast<int64_t>(shape.size()), name, " must have ", shape.size(),
                  " dimensions, not ", tensor.dim());
  int64_t dim = 0;
  for (const int64_t size : shape) {
    STD_TORCH_CHECK(tensor.size(dim) == size, name, " must have size ", size, " in dimension ", dim, ", not ",
                    tensor.size(dim));
    ++dim;
  }
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

inline ElementType ElementTypeOf(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return ElementType::kFloat32;
    case ScalarType::BFloat16:
      return ElementType::kBFloat16;
    case ScalarType::Half:
      return ElementType::kFloat16;
    default:
      STD_TORCH_CHECK(false, name, " must be float32, bfloat16 or float16");
  }
  return ElementType::kFloat32;
}

inline Matrix MatrixOf(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2, name, " must have 2 dimensions, not ", tensor.dim());
  const ElementType type = ElementTypeOf(tensor, name);
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
  return {tensor.const_data_ptr(), type, tensor.size(0), tensor.size(1)};
}

inline void CheckSameKind(const Matrix& a, const Matrix& b, const char* name_a, const char* name_b) {
  STD_TORCH_CHECK(a.type == b.type, name_a, " and ", name_b, " must have the same dtype");
  STD_TORCH_CHECK(a.width == b.width, name_a, " and ", name_b, " must have the same width, not ", a.width, " and ",
                  b.width);
}

}  // namespace hybatch
