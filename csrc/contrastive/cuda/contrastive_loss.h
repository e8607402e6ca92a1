// The CUDA implementation of ../contract.h: no float atomics, so that results repeat bit for bit. All pointers of a
// task are device pointers; all work is queued on `stream` of the current device and can be captured into a graph.
//
// Two paths: generic.cuh and hopper.cuh. The latter is taken where it can be; HYBATCH_CUDA_KERNELS=generic or =hopper,
// read at each call, asks for one.
//
// This code was written without a GPU at hand: it compiles, and its kernels are tested in a model of a device
// (tests/csrc/device_model). Nothing chooses it unless it is asked for by name.

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "../contract.h"
#include "common/cuda/device.h"

namespace hybatch::contrastive::cuda {

// Bytes of device memory that each of them needs.
size_t ForwardWorkspace(const LossInputs& inputs, bool columns, const DeviceTraits& device);
size_t BackwardWorkspace(const LossInputs& inputs, const DeviceTraits& device);

void Forward(const ForwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream);
void Backward(const BackwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream);

// Device memory for `count` ones and `count` minus ones, by which the one pass is a forward and a backward pass.
void FillOnes(float* ones, float* minus_ones, int64_t count, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
