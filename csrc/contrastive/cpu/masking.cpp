#include "masking.h"

#include <array>
#include <limits>

namespace hybatch::contrastive::cpu {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Keys of rows without a group: equal to nothing.
constexpr int64_t kQueryAlone = -3;
constexpr int64_t kCandidateAlone = -4;

}  // namespace

Masking::Masking(const LossInputs& inputs, const StripKernels& kernels, int64_t first_number)
    : inputs_(inputs),
      kernels_(kernels),
      lanes_(kernels.tile.lanes),
      first_number_(first_number),
      query_keys_(inputs.queries.rows) {
  for (int64_t q = 0; q < inputs.queries.rows; ++q) {
    query_keys_[q] = inputs.query_groups[q] >= 0 ? inputs.query_groups[q] : kQueryAlone;
  }
}

void Masking::DescribeColumns(int64_t first, int64_t count, int64_t* keys, float* bias) const {
  for (int64_t column = 0; column < count; ++column) {
    const bool exists = first + column < inputs_.candidates.rows;
    const int64_t group = exists ? inputs_.candidate_groups[first + column] : kEmptySlot;
    keys[column] = group >= 0 ? group : kCandidateAlone;
    bias[column] = group == kEmptySlot ? kNothing : 0.0f;
  }
}

void Masking::Finish(const PlacedStrip& placed, const StripColumns& columns, float* positive_logit) const {
  const float scale = *inputs_.scale;
  // The masks do not know positives: their logits are put back after it.
  std::array<float, kMostStripRows> logits;
  ForEachPositive(placed, [&](int row, float& value) { logits[row] = value * scale; });
  kernels_.finish_logits(placed.strip, scale, query_keys_.data() + placed.first_query, columns);
  if (inputs_.left_out != nullptr) LeaveOut(placed);
  ForEachPositive(placed, [&](int row, float& value) {
    if (positive_logit != nullptr) positive_logit[placed.first_query + row] = logits[row];
    value = logits[row];
  });
}

// Bits are few: the bytes are looked through, and only those that hold one cost more.
void Masking::LeaveOut(const PlacedStrip& placed) const {
  const int64_t first = first_number_ + placed.first_candidate, count = NumCandidates(placed);
  for (int row = 0; row < placed.strip.rows; ++row) {
    const uint8_t* bits = inputs_.left_out + (placed.first_query + row) * inputs_.left_out_stride;
    for (int64_t byte = first / 8; byte * 8 < first + count; ++byte) {
      for (unsigned rest = bits[byte]; rest != 0; rest &= rest - 1) {
        const int64_t column = byte * 8 + __builtin_ctz(rest) - first;
        if (column >= 0 && column < count) At(placed.strip, row, column) = kNothing;
      }
    }
  }
}

}  // namespace hybatch::contrastive::cpu
