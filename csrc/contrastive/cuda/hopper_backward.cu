// Slabs of queries follow one another on the stream, so that sums have one order.

#include <algorithm>

#include "common/cuda/runtime.h"
#include "hopper.cuh"
#include "hopper_products.cuh"
#include "hopper_weights.cuh"
#include "scale_gradient.cuh"

namespace hybatch::contrastive::cuda {
namespace {

struct Workspace {
  uint16_t* weights;
  float* partial;
  double* scale_terms;
  uint32_t* largest;
};

Workspace Carve(const LossInputs& inputs, const DeviceTraits& device, Carver& carver) {
  const int64_t queries = inputs.queries.rows, candidates = inputs.candidates.rows;
  const int64_t rows = HopperSlabRows(queries, candidates), last = queries % rows;
  const int64_t partial = std::max(PartialElements(inputs, std::min(rows, queries), device),
                                   last == 0 ? 0 : PartialElements(inputs, last, device));
  Workspace workspace;
  workspace.weights = carver.Take<uint16_t>(rows * WeightStride(candidates));
  workspace.partial = carver.Take<float>(partial);
  workspace.scale_terms = carver.Take<double>(queries);
  workspace.largest = carver.Take<uint32_t>(1);
  return workspace;
}

}  // namespace

size_t HopperBackwardWorkspace(const LossInputs& inputs, const DeviceTraits& device) {
  Carver carver(nullptr);
  Carve(inputs, device, carver);
  return carver.used();
}

void HopperBackward(const BackwardTask& task, const DeviceTraits& device, void* memory, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const int64_t queries = inputs.queries.rows, candidates = inputs.candidates.rows;
  Carver carver(memory);
  const Workspace workspace = Carve(inputs, device, carver);
  FindLargestUpstream(task, workspace.largest, stream);
  const int64_t rows = HopperSlabRows(queries, candidates);
  for (int64_t first = 0; first < queries; first += rows) {
    const WeightSlab slab = {workspace.weights, WeightStride(candidates), first, std::min(rows, queries - first)};
    HopperWeights(task, slab, workspace.largest, device, stream);
    HopperQueryGradients(task, slab, workspace.largest, workspace.partial, device, stream);
    HopperCandidateGradients(task, slab, workspace.largest, device, stream);
  }
  ScaleGradient(inputs, task.gradients, workspace.scale_terms, stream);
}

}  // namespace hybatch::contrastive::cuda
