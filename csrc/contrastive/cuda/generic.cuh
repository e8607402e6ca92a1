// The path for every architecture from sm_80 on, and for fp32 embeddings on all of them: fp32 arithmetic, no tensor
// cores.

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "../contract.h"

namespace hybatch::contrastive::cuda {

size_t GenericForwardWorkspace(const LossInputs& inputs, bool columns);
void GenericForward(const ForwardTask& task, void* workspace, cudaStream_t stream);

// There are queries, candidates and elements.
size_t GenericBackwardWorkspace(const LossInputs& inputs);
void GenericBackward(const BackwardTask& task, void* workspace, cudaStream_t stream);

}  // namespace hybatch::contrastive::cuda
