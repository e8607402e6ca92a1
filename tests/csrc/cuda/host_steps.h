// The small kernels around the products, as one thread would run them: sorting thresholds, summing up what they were
// beaten by.

#pragma once

#include <cstdint>
#include <vector>

#include "ranking/cuda/thresholds.h"

namespace hybatch::ranking::cuda {

struct HostThresholds {
  std::vector<float> values;
  std::vector<int32_t> positive, beaten;

  SortedThresholds Pointers() { return {values.data(), positive.data(), beaten.data()}; }
};

// As SortThresholdsKernel.
inline HostThresholds SortOnHost(const float* thresholds, const int64_t* offsets, int64_t num_queries,
                                 int64_t num_groups) {
  const int64_t num_positives = offsets[num_queries];
  HostThresholds sorted = {std::vector<float>(num_positives), std::vector<int32_t>(num_positives, -1),
                           std::vector<int32_t>(num_positives * num_groups)};
  for (int64_t own = 0; own < num_positives; ++own) {
    const int64_t query = OwnerOf(offsets, num_queries, own);
    int64_t position = offsets[query];
    for (int64_t other = offsets[query]; other < offsets[query + 1]; ++other) {
      position += SortsBefore(thresholds[other], other, thresholds[own], own);
    }
    sorted.values[position] = thresholds[own];
    sorted.positive[position] = static_cast<int32_t>(own);
  }
  return sorted;
}

// As AddBeatenKernel.
inline void AddBeatenOnHost(const HostThresholds& sorted, const int64_t* offsets, int64_t num_queries,
                            int64_t num_groups, int32_t* greater) {
  for (int64_t query = 0; query < num_queries; ++query) {
    for (int64_t group = 0; group < num_groups; ++group) {
      int32_t above = 0;
      for (int64_t position = offsets[query + 1] - 1; position >= offsets[query]; --position) {
        above += sorted.beaten[position * num_groups + group];
        greater[sorted.positive[position] * num_groups + group] += above;
      }
    }
  }
}

}  // namespace hybatch::ranking::cuda
