#include "thresholds.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kThreads = 256;

// A positive's place is the number of its query's positives that sort before it: quadratic in their number, which is
// small, and free of scratch memory.
__global__ void SortThresholdsKernel(const float* thresholds, const int64_t* offsets, int64_t num_queries,
                                     int64_t num_positives, SortedThresholds sorted) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; p < num_positives; p += stride) {
    const int64_t query = OwnerOf(offsets, num_queries, p);
    const int64_t begin = offsets[query], end = offsets[query + 1];
    const float own = thresholds[p];
    int64_t position = begin;
    for (int64_t other = begin; other < end; ++other) position += SortsBefore(thresholds[other], other, own, p);
    sorted.values[position] = own;
    sorted.positive[position] = static_cast<int32_t>(p);
  }
}

__global__ void AddBeatenKernel(const int64_t* offsets, int64_t num_queries, int64_t num_groups,
                                SortedThresholds sorted, int32_t* greater) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t items = num_queries * num_groups;
  for (int64_t item = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; item < items; item += stride) {
    const int64_t query = item / num_groups, group = item % num_groups;
    int32_t above = 0;
    for (int64_t position = offsets[query + 1] - 1; position >= offsets[query]; --position) {
      above += sorted.beaten[position * num_groups + group];
      if (above != 0) greater[sorted.positive[position] * num_groups + group] += above;
    }
  }
}

}  // namespace

SortedThresholds CarveThresholds(const CountAboveTask& task, int64_t num_positives, Carver& carver) {
  SortedThresholds sorted;
  sorted.values = carver.Take<float>(num_positives);
  sorted.positive = carver.Take<int32_t>(num_positives);
  sorted.beaten = carver.Take<int32_t>(num_positives * task.num_groups);
  return sorted;
}

void SortThresholds(const CountAboveTask& task, int64_t num_positives, const SortedThresholds& sorted,
                    cudaStream_t stream) {
  const size_t bytes = static_cast<size_t>(num_positives) * task.num_groups * sizeof(int32_t);
  if (bytes > 0) Check(cudaMemsetAsync(sorted.beaten, 0, bytes, stream), "clearing counters");
  SortThresholdsKernel<<<BlocksFor(num_positives, kThreads), kThreads, 0, stream>>>(
      task.thresholds, task.offsets, task.queries.rows, num_positives, sorted);
  CheckLaunch("launching SortThresholdsKernel");
}

void AddBeaten(const CountAboveTask& task, const SortedThresholds& sorted, cudaStream_t stream) {
  const int64_t items = task.queries.rows * task.num_groups;
  if (items == 0) return;
  AddBeatenKernel<<<BlocksFor(items, kThreads), kThreads, 0, stream>>>(task.offsets, task.queries.rows,
                                                                      task.num_groups, sorted, task.greater);
  CheckLaunch("launching AddBeatenKernel");
}

}  // namespace hybatch::ranking::cuda
