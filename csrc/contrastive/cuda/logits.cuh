// Which pairs take part, and what their logits are.

#pragma once

#include <cmath>
#include <cstdint>

#include "../contract.h"
#include "common/cuda/host_device.h"

namespace hybatch::contrastive::cuda {

HYBATCH_HD inline bool TakesPart(int64_t candidate, int64_t candidate_group, int64_t positive, int64_t query_group) {
  if (candidate == positive) return true;
  return candidate_group != kEmptySlot && !(candidate_group >= 0 && candidate_group == query_group);
}

HYBATCH_HD inline bool TakesPart(const LossInputs& inputs, int64_t query, int64_t candidate) {
  const int64_t positive = inputs.positive_index[query];
  if (!TakesPart(candidate, inputs.candidate_groups[candidate], positive, inputs.query_groups[query])) return false;
  if (inputs.left_out == nullptr || candidate == positive) return true;
  const uint8_t byte = inputs.left_out[query * inputs.left_out_stride + candidate / 8];
  return (byte >> (candidate % 8) & 1) == 0;
}

// Sums of exponentials as (largest exponent, sum relative to it); a sum of 0 stands for nothing at all.
struct ExponentialSum {
  float maximum;
  float sum;
};

HYBATCH_HD inline ExponentialSum Nothing() { return {-INFINITY, 0.0f}; }

HYBATCH_HD inline ExponentialSum Join(const ExponentialSum& a, const ExponentialSum& b) {
  if (a.sum == 0.0f) return b;
  if (b.sum == 0.0f) return a;
  const float maximum = a.maximum > b.maximum ? a.maximum : b.maximum;
  return {maximum, a.sum * expf(a.maximum - maximum) + b.sum * expf(b.maximum - maximum)};
}

HYBATCH_HD inline float LogSumExp(const ExponentialSum& sum) {
  return sum.sum == 0.0f ? -INFINITY : sum.maximum + logf(sum.sum);
}

}  // namespace hybatch::contrastive::cuda
