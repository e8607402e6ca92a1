// The order of the kernels that make up one op.

#include "rank_counts.h"

#include "generic.cuh"
#include "runtime.h"
#include "value_checks.cuh"

namespace hybatch::ranking::cuda {
namespace {

struct Workspace {
  unsigned long long* norms;
  CandidateTiles tiles;
  SortedThresholds sorted;
};

Workspace Carve(const CountAboveTask& task, int64_t num_positives, Carver& carver) {
  Workspace workspace;
  workspace.norms = carver.Take<unsigned long long>(kNormSlots);
  workspace.tiles = CarveCandidateTiles(task, kGenericTile, carver);
  workspace.sorted = CarveThresholds(task, num_positives, carver);
  return workspace;
}

Values ValuesOf(const Matrix& matrix, Rounding rounding) {
  return {matrix.data, KindOf(matrix.type, rounding), matrix.rows, matrix.width};
}

}  // namespace

DeviceTraits TraitsOf(int device) {
  DeviceTraits traits = {device, 0, 0};
  int major = 0, minor = 0;
  Check(cudaDeviceGetAttribute(&traits.multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "counting the device's multiprocessors");
  Check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "reading the device's compute capability");
  Check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "reading the device's compute capability");
  traits.capability = 10 * major + minor;
  return traits;
}

void PairScores(const PairScoresTask& task, int64_t num_positives, Rounding rounding, const DeviceTraits&,
                cudaStream_t stream) {
  if (num_positives == 0) return;
  GenericPairScores(task, num_positives, KindOf(task.queries.type, rounding), stream);
}

size_t CountAboveWorkspace(const CountAboveTask& task, int64_t num_positives, Rounding, const DeviceTraits&) {
  Carver carver(nullptr);
  Carve(task, num_positives, carver);
  return carver.used();
}

void CountAbove(const CountAboveTask& task, int64_t num_positives, Rounding rounding, const DeviceTraits& device,
                void* memory, cudaStream_t stream) {
  Carver carver(memory);
  const Workspace workspace = Carve(task, num_positives, carver);
  Check(cudaMemsetAsync(workspace.norms, 0, kNormSlots * sizeof(*workspace.norms), stream), "clearing norms");
  CheckValues(ValuesOf(task.queries, rounding), kQueryNorm, workspace.norms, task.status, stream);
  CheckValues(ValuesOf(task.candidates, rounding), kCandidateNorm, workspace.norms, task.status, stream);
  CheckOverflow(workspace.norms, task.status, stream);
  if (num_positives == 0 || task.candidates.rows == 0) return;
  ArrangeCandidates(task, workspace.tiles, stream);
  SortThresholds(task, num_positives, workspace.sorted, stream);
  GenericCount(task, KindOf(task.queries.type, rounding), workspace.tiles, workspace.sorted, device, stream);
  AddBeaten(task, workspace.sorted, stream);
}

}  // namespace hybatch::ranking::cuda
