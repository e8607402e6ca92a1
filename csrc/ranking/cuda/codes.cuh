// Codes: whole numbers and signs in bits, whose products are summed up in 32-bit integers.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../contract.h"
#include "common/cuda/elements.h"

namespace hybatch::ranking::cuda {

void CodePairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream);

// What four bytes of a query and of a candidate add: their inner product, or the number of bits that differ.
template <ElementKind kKind>
__device__ int32_t AddCodes(uint32_t query, uint32_t candidate, int32_t sum) {
  if constexpr (kKind == ElementKind::kInt8) {
    return __dp4a(static_cast<int>(query), static_cast<int>(candidate), sum);
  } else {
    return sum + __popc(query ^ candidate);
  }
}

// The score that such sums over rows of `row_bytes` make.
template <ElementKind kKind>
__device__ float ScoreOfCodes(int32_t sum, int row_bytes) {
  return static_cast<float>(kKind == ElementKind::kInt8 ? sum : 8 * row_bytes - 2 * sum);
}

// Calls body with the kind, a code's or not, as a compile-time constant.
template <class Body>
auto WithRankedKind(ElementKind kind, Body&& body) {
  if (kind == ElementKind::kInt8) return body.template operator()<ElementKind::kInt8>();
  if (kind == ElementKind::kBits) return body.template operator()<ElementKind::kBits>();
  return WithKind(kind, body);
}

}  // namespace hybatch::ranking::cuda
