#pragma once

#include <torch/csrc/stable/tensor.h>

#include <initializer_list>

namespace torch::stable {

inline Tensor new_empty(const Tensor&, std::initializer_list<int64_t> sizes, ScalarType type) { return {sizes, type}; }

}  // namespace torch::stable
