// Sorting thresholds and summing up counts, on the device.

#pragma once

#include <cuda_runtime_api.h>

#include "../contract.h"
#include "common/cuda/runtime.h"
#include "thresholds.h"

namespace hybatch::ranking::cuda {

SortedThresholds CarveThresholds(const CountAboveTask& task, int64_t num_positives, Carver& carver);
void SortThresholds(const CountAboveTask& task, int64_t num_positives, const SortedThresholds& sorted,
                    cudaStream_t stream);

// Who beats a threshold beats all lower ones of the query: adds the sums to task.greater.
void AddBeaten(const CountAboveTask& task, const SortedThresholds& sorted, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
