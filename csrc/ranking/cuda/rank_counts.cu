// The order of the kernels that make up one op.

#include "rank_counts.h"

#include "codes.cuh"
#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "hopper.cuh"
#include "hopper_operands.cuh"
#include "rescoring.cuh"
#include "value_checks.cuh"

namespace hybatch::ranking::cuda {
namespace {

// Everything but fp32 itself runs on tensor cores where they are Hopper's; elsewhere on the fp32 chain, with the same
// rounded inputs.
bool UsesHopper(const Matrix& queries, Precision precision, const DeviceTraits& device) {
  return precision != Precision::kExact && device.capability == 90 && queries.width > 0;
}

struct Workspace {
  unsigned long long* norms;
  SortedThresholds sorted;
  CandidateTiles tiles;  // of the fp32 chain
  HopperWorkspace hopper;
  Rescoring rescoring;
};

Workspace Carve(const CountAboveTask& task, int64_t num_positives, Precision precision, const DeviceTraits& device,
                Carver& carver) {
  Workspace workspace = {};
  const bool hopper = UsesHopper(task.queries, precision, device);
  workspace.norms = carver.Take<unsigned long long>(kNormSlots);
  workspace.sorted = CarveThresholds(task, num_positives, carver);
  if (hopper) workspace.hopper = CarveHopper(task, TensorCoreKindOf(task.queries.type, precision), carver);
  if (hopper && IsRescored(precision)) {
    workspace.rescoring = CarveRescoring(task, num_positives, kHopperTile, carver);
  }
  if (!hopper || IsRescored(precision)) workspace.tiles = CarveCandidateTiles(task, kGenericTile, carver);
  return workspace;
}

// The tensor cores decide what they can, the fp32 chain the rest of the pairs, or all if these are too many.
void CountRescored(const CountAboveTask& task, int64_t num_positives, Precision precision, const Workspace& workspace,
                   const DeviceTraits& device, cudaStream_t stream) {
  const ElementKind rounded = TensorCoreKindOf(task.queries.type, precision);
  const Rescoring& rescoring = workspace.rescoring;
  PrepareRescoring(task, rounded, kHopperTile, rescoring, stream);
  HopperCount(task, rounded, workspace.hopper, workspace.sorted, &rescoring, device, stream);
  CountQueuedPairs(task, num_positives, workspace.sorted, rescoring.queue, device, stream);
  ArrangeCandidates(task, workspace.tiles, stream);
  GenericCount(task, KindOf(task.queries.type, precision), workspace.tiles, workspace.sorted, &rescoring.queue, device,
               stream);
}

void CheckEmbeddings(const CountAboveTask& task, ElementKind kind, unsigned long long* norms, cudaStream_t stream) {
  Check(cudaMemsetAsync(norms, 0, kNormSlots * sizeof(*norms), stream), "clearing norms");
  CheckValues({task.queries.data, kind, task.queries.rows, task.queries.width}, kQueryNorm, norms, task.status,
              stream);
  CheckValues({task.candidates.data, kind, task.candidates.rows, task.candidates.width}, kCandidateNorm, norms,
              task.status, stream);
  CheckOverflow(norms, task.status, stream);
}

}  // namespace

void PairScores(const PairScoresTask& task, int64_t num_positives, Precision precision, const DeviceTraits& device,
                cudaStream_t stream) {
  if (num_positives == 0) return;
  const ElementKind kind = KindOf(task.queries.type, precision);
  if (IsCode(kind)) {
    CodePairScores(task, num_positives, kind, stream);
  } else if (UsesHopper(task.queries, precision, device) && !IsRescored(precision)) {
    HopperPairScores(task, kind, stream);
  } else {
    GenericPairScores(task, num_positives, kind, stream);
  }
}

size_t CountAboveWorkspace(const CountAboveTask& task, int64_t num_positives, Precision precision,
                           const DeviceTraits& device) {
  Carver carver(nullptr);
  Carve(task, num_positives, precision, device, carver);
  return carver.used();
}

void CountAbove(const CountAboveTask& task, int64_t num_positives, Precision precision, const DeviceTraits& device,
                void* memory, cudaStream_t stream) {
  Carver carver(memory);
  const Workspace workspace = Carve(task, num_positives, precision, device, carver);
  const ElementKind kind = KindOf(task.queries.type, precision);
  if (!IsCode(kind)) CheckEmbeddings(task, kind, workspace.norms, stream);
  if (num_positives == 0 || task.candidates.rows == 0) return;
  SortThresholds(task, num_positives, workspace.sorted, stream);
  if (!UsesHopper(task.queries, precision, device)) {
    ArrangeCandidates(task, workspace.tiles, stream);
    GenericCount(task, kind, workspace.tiles, workspace.sorted, nullptr, device, stream);
  } else if (IsRescored(precision)) {
    CountRescored(task, num_positives, precision, workspace, device, stream);
  } else {
    HopperCount(task, kind, workspace.hopper, workspace.sorted, nullptr, device, stream);
  }
  AddBeaten(task, workspace.sorted, stream);
}

}  // namespace hybatch::ranking::cuda
