// The CUDA implementation of ../contract.h for every architecture from sm_80 on: fp32 arithmetic, no tensor cores, no
// atomics. All pointers of a task are device pointers; all work is queued on `stream` of the current device and can be
// captured into a graph.
//
// This code was written without a GPU at hand: it compiles, but none of its kernels has run. Nothing chooses it unless
// it is asked for by name.

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "../contract.h"

namespace hybatch::contrastive::cuda {

// Bytes of device memory that each of them needs.
size_t ForwardWorkspace(const LossInputs& inputs, bool columns);
size_t BackwardWorkspace(const LossInputs& inputs);

void Forward(const ForwardTask& task, void* workspace, cudaStream_t stream);
void Backward(const BackwardTask& task, void* workspace, cudaStream_t stream);

// Device memory for `count` ones and `count` minus ones, by which the one pass is a forward and a backward pass.
void FillOnes(float* ones, float* minus_ones, int64_t count, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
