// Which pairs of a strip take no part, and the logits of positives, which always do.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../contract.h"
#include "strip_kernels.h"

namespace hybatch::contrastive::cpu {

// A strip whose first row is that of query `first_query` and whose first column is that of candidate `first_candidate`.
struct PlacedStrip {
  Strip strip;
  int64_t first_query;
  int64_t first_candidate;
};

class Masking {
 public:
  // Of the inputs' matrices only the numbers of rows are looked at. Their first candidate has the number
  // `first_number` in positive_index and left_out, whose stride may be that of more candidates.
  Masking(const LossInputs& inputs, const StripKernels& kernels, int64_t first_number = 0);

  // Keys and bias of `count` candidates from `first` on; those past the last are empty slots.
  void DescribeColumns(int64_t first, int64_t count, int64_t* keys, float* bias) const;

  // Products become logits; those of positives go to positive_logit[q], too, unless null.
  void Finish(const PlacedStrip& placed, const StripColumns& columns, float* positive_logit) const;

  // Calls body(row, value) for the rows whose positive is in the strip, with the value at its place.
  template <class Body>
  void ForEachPositive(const PlacedStrip& placed, const Body& body) const {
    const int64_t count = NumCandidates(placed);
    for (int row = 0; row < placed.strip.rows; ++row) {
      const int64_t number = inputs_.positive_index[placed.first_query + row];
      const int64_t column = number - first_number_ - placed.first_candidate;
      if (number >= 0 && column >= 0 && column < count) body(row, At(placed.strip, row, column));
    }
  }

 private:
  int64_t NumCandidates(const PlacedStrip& placed) const {
    return std::min(placed.strip.tiles * lanes_, inputs_.candidates.rows - placed.first_candidate);
  }
  float& At(const Strip& strip, int row, int64_t column) const {
    return strip.values[column / lanes_ * strip.tile_stride + row * strip.row_stride + column % lanes_];
  }
  void LeaveOut(const PlacedStrip& placed) const;

  const LossInputs& inputs_;
  const StripKernels& kernels_;
  const int64_t lanes_;
  const int64_t first_number_;
  std::vector<int64_t> query_keys_;  // [Q]
};

}  // namespace hybatch::contrastive::cpu
