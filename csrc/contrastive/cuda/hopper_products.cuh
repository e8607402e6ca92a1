// Gradients as products of a slab's weights with the embeddings of the other side.

#pragma once

#include <cuda_runtime_api.h>

#include "hopper_schedule.h"
#include "hopper_weights.cuh"

namespace hybatch::contrastive::cuda {

// How the gradient of a slab's queries is cut up.
ProductItems QueryProduct(const LossInputs& inputs, int64_t num_queries, const DeviceTraits& device);

// Elements of `partial` that it needs.
int64_t PartialElements(const LossInputs& inputs, int64_t num_queries, const DeviceTraits& device);

// Sets the gradients of the slab's queries.
void HopperQueryGradients(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest, float* partial,
                          const DeviceTraits& device, cudaStream_t stream);

// Adds to the gradients of all candidates what the slab's queries give them; sets them with the first slab.
void HopperCandidateGradients(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest,
                              const DeviceTraits& device, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
