// Rescoring, on the device.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "common/cuda/runtime.h"
#include "rank_counts.h"
#include "rescoring.h"

namespace hybatch::ranking::cuda {

// The queue and the sizes of the rows of both matrices, candidates by tiles of `tile_size`.
Rescoring CarveRescoring(const CountAboveTask& task, int64_t num_positives, int tile_size, Carver& carver);

// Empties the queue and measures the rows, which enter the tensor cores as `kind`.
void PrepareRescoring(const CountAboveTask& task, ElementKind kind, int tile_size, const Rescoring& rescoring,
                      cudaStream_t stream);

// Counts the queued pairs. If the queue has overflowed, it counts none of them and clears what has been counted in
// sorted.beaten: nothing else has been touched.
void CountQueuedPairs(const CountAboveTask& task, int64_t num_positives, const SortedThresholds& sorted,
                      const RescoringQueue& queue, const DeviceTraits& device, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
