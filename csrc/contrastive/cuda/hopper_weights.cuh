// Weights of a slab of queries, in 16 bits and multiplied by a common power of two.

#pragma once

#include <cuda_runtime_api.h>

#include "hopper.cuh"

namespace hybatch::contrastive::cuda {

struct WeightSlab {
  void* weights;  // [num_queries, stride]; columns past the candidates hold anything
  int64_t stride;
  int64_t first_query;
  int64_t num_queries;
};

// Bits of the largest upstream gradient's absolute value, from which WeightFactor makes the power of two.
void FindLargestUpstream(const BackwardTask& task, uint32_t* largest, cudaStream_t stream);

void HopperWeights(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest,
                   const DeviceTraits& device, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
