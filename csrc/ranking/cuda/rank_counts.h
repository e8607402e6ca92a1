// The CUDA implementation of ../contract.h. All pointers of a task are device pointers; all work is queued on `stream`
// of the current device, nothing waits for it, and what is queued can be captured into a graph.
//
// This code was written without a GPU at hand: it compiles for sm_80, sm_90a and PTX, and its kernels are tested in a
// model of a device (tests/csrc/device_model), which holds everything but rounding, timing and the memory model.

#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "../contract.h"
#include "common/cuda/device.h"
#include "common/cuda/elements.h"
#include "precision.h"

namespace hybatch::ranking::cuda {

// An embedding matrix read as values of `kind`, which includes the rounding of the precision asked for.
struct Values {
  const void* data;
  ElementKind kind;
  int64_t rows;
  int64_t width;
};

// Thresholds and counts of one precision come from the same kernels only if both are called with the same width and
// element type on the same device.

// Rows outside [0, embeddings.rows) score NaN: a threshold that nothing meets.
void PairScores(const PairScoresTask& task, int64_t num_positives, Precision precision, const DeviceTraits& device,
                cudaStream_t stream);

// Bytes of device memory that CountAbove needs.
size_t CountAboveWorkspace(const CountAboveTask& task, int64_t num_positives, Precision precision,
                           const DeviceTraits& device);
void CountAbove(const CountAboveTask& task, int64_t num_positives, Precision precision, const DeviceTraits& device,
                void* workspace, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
