// The path of compute capability 9.0 for bf16, fp16 and tf32: products on the tensor cores, fp32 accumulation.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda/runtime.h"
#include "rank_counts.h"
#include "rescoring.h"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {

struct HopperWorkspace {
  int32_t* tile_groups;  // [tiles] the one group of a tile, kNoGroup or kMixedGroups
  void* queries;         // rounded copies of some rows at a time; null where the matrix can be read as it stands
  void* candidates;
};

HopperWorkspace CarveHopper(const CountAboveTask& task, ElementKind kind, Carver& carver);

void HopperPairScores(const PairScoresTask& task, ElementKind kind, cudaStream_t stream);

// Counts what the tensor cores' scores say. With `rescoring` they are known only within a band of the fp32 chain's: the
// undecided are queued, and of the counters only sorted.beaten is touched.
void HopperCount(const CountAboveTask& task, ElementKind kind, const HopperWorkspace& workspace,
                 const SortedThresholds& sorted, const Rescoring* rescoring, const DeviceTraits& device,
                 cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
