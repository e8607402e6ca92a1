// Which path a call takes.

#include "contrastive_loss.h"

#include <cstdlib>
#include <string_view>

#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "hopper.cuh"

namespace hybatch::contrastive::cuda {
namespace {

__global__ void FillOnesKernel(float* ones, float* minus_ones, int64_t count) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    ones[i] = 1.0f;
    minus_ones[i] = -1.0f;
  }
}

bool UsesHopper(const LossInputs& inputs, const DeviceTraits& device) {
  const char* value = std::getenv("HYBATCH_CUDA_KERNELS");
  const std::string_view asked = value != nullptr ? value : "";
  const char* reason = WhyNotHopper(inputs, device);
  if (asked.empty()) return reason == nullptr;
  if (asked == "generic") return false;
  if (asked != "hopper") {
    throw std::runtime_error("HYBATCH_CUDA_KERNELS must be generic or hopper, not " + std::string(asked));
  }
  if (reason != nullptr) {
    throw std::runtime_error(std::string("HYBATCH_CUDA_KERNELS=hopper: these kernels cannot serve this call: ") +
                             reason);
  }
  return true;
}

bool IsEmpty(const LossInputs& inputs) {
  return inputs.queries.rows == 0 || inputs.candidates.rows == 0 || inputs.queries.width == 0;
}

void Clear(float* values, int64_t count, cudaStream_t stream) {
  if (count == 0) return;  // no memory at all: a null pointer
  Check(cudaMemsetAsync(values, 0, static_cast<size_t>(count) * sizeof(float), stream), "clearing gradients");
}

}  // namespace

size_t ForwardWorkspace(const LossInputs& inputs, bool columns, const DeviceTraits& device) {
  if (!IsEmpty(inputs) && UsesHopper(inputs, device)) return HopperForwardWorkspace(inputs, columns, device);
  return GenericForwardWorkspace(inputs, columns);
}

void Forward(const ForwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream) {
  if (!IsEmpty(task.inputs) && UsesHopper(task.inputs, device)) {
    HopperForward(task, device, workspace, stream);
  } else {
    GenericForward(task, workspace, stream);
  }
}

size_t BackwardWorkspace(const LossInputs& inputs, const DeviceTraits& device) {
  if (IsEmpty(inputs)) return 0;
  return UsesHopper(inputs, device) ? HopperBackwardWorkspace(inputs, device) : GenericBackwardWorkspace(inputs);
}

void Backward(const BackwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  if (IsEmpty(inputs)) {
    Clear(task.gradients.queries, inputs.queries.rows * inputs.queries.width, stream);
    Clear(task.gradients.candidates, inputs.candidates.rows * inputs.candidates.width, stream);
    Clear(task.gradients.scale, 1, stream);
  } else if (UsesHopper(inputs, device)) {
    HopperBackward(task, device, workspace, stream);
  } else {
    GenericBackward(task, workspace, stream);
  }
}

void FillOnes(float* ones, float* minus_ones, int64_t count, cudaStream_t stream) {
  FillOnesKernel<<<BlocksFor(count, 256), 256, 0, stream>>>(ones, minus_ones, count);
  CheckLaunch("launching FillOnesKernel");
}

}  // namespace hybatch::contrastive::cuda
