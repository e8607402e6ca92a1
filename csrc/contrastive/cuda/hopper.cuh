// The path of compute capability 9.0 for bf16 and fp16 embeddings: products on the tensor cores, fp32 accumulation.
//
// Forward: one product. Backward: three, a slab of queries at a time: their weights are formed from the logits, rounded
// to the embeddings' 16 bits and held in memory, and both gradients are products with them. The gradient of the slab's
// queries is complete then, that of all candidates is added to, slab after slab on the stream. With the forward pass
// that makes four products; two passes that keep nothing would make five, and registers hold the gradients of too few
// rows of 768 elements to form them beside the logits.

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "../contract.h"
#include "common/cuda/device.h"

namespace hybatch::contrastive::cuda {

// Null if the path can be taken, else why not.
const char* WhyNotHopper(const LossInputs& inputs, const DeviceTraits& device);

// 8 bytes x (queries x column shares + 2 x candidates x row shares), shares as DealTiles makes them.
size_t HopperForwardWorkspace(const LossInputs& inputs, bool columns, const DeviceTraits& device);
void HopperForward(const ForwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream);

// 2 bytes x HopperSlabRows x candidates, and one partial gradient of the slab's queries for each split of it.
size_t HopperBackwardWorkspace(const LossInputs& inputs, const DeviceTraits& device);
void HopperBackward(const BackwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
