// Partial sums of exponentials become log-sum-exps.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "logits.cuh"

namespace hybatch::contrastive::cuda {

// lse[line] from partial[share * num_lines + line], shares in ascending order.
void JoinSums(const ExponentialSum* partial, int64_t num_shares, int64_t num_lines, float* lse, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
