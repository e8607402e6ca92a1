#include "product_tile.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "masking.h"
#include "rounding.h"
#include "strip_kernels.h"
#include "sums.h"

namespace hybatch::contrastive::cpu {
namespace {

constexpr int64_t kMostLanes = 32;      // of any instruction set
constexpr int64_t kPanelRows = 8;       // of a strip
constexpr int64_t kBlockColumns = 512;  // of a strip, which fits the first-level cache; sums of short chains round less
constexpr int64_t kPartRows = 256;      // of a work item
static_assert(kPanelRows <= kMostStripRows && kBlockColumns % kMostLanes == 0 && kPartRows % kPanelRows == 0);

class TilePass {
 public:
  TilePass(const ProductTile& tile, InstructionSet instruction_set, const Parallel& parallel)
      : tile_(tile),
        kernels_(StripKernelsFor(instruction_set)),
        parallel_(parallel),
        masking_(tile.inputs, kernels_, tile.first_number),
        num_queries_(tile.inputs.queries.rows),
        num_candidates_(tile.inputs.candidates.rows),
        num_blocks_(DivideUp(num_candidates_, kBlockColumns)),
        num_parts_(DivideUp(num_queries_, kPartRows)),
        padded_(RoundUp(num_candidates_, kernels_.tile.lanes)),
        keys_(padded_),
        bias_(padded_) {
    masking_.DescribeColumns(0, padded_, keys_.data(), bias_.data());
  }

  void AddSums(const RunningSums& rows, const RunningSums& columns, float* positive_logit);
  void KnownWeights(const BackwardTask& known);
  void LossWeights(const RunningSums& rows, float* positive_logit);

 private:
  PlacedStrip At(int64_t row, int64_t block) const;
  PlacedStrip Finished(int64_t row, int64_t block, float* positive_logit) const;
  int64_t end_of_part(int64_t part) const { return std::min(num_queries_, (part + 1) * kPartRows); }

  void AddItem(int64_t part, int64_t block, float* positive_logit);
  void JoinRows(int64_t part, const RunningSums& rows) const;
  void JoinColumns(int64_t block, const RunningSums& columns) const;
  void LossWeightsOfPanel(int64_t row, const RunningSums& rows, float* positive_logit) const;

  const ProductTile& tile_;
  const StripKernels& kernels_;
  const Parallel& parallel_;
  const Masking masking_;
  const int64_t num_queries_, num_candidates_;
  const int64_t num_blocks_, num_parts_;
  const int64_t padded_;  // candidates, in whole tiles of this instruction set
  std::vector<int64_t> keys_;
  std::vector<float> bias_;
  std::vector<float> row_maxima_, row_sums_;        // [blocks, queries]
  std::vector<float> column_maxima_, column_sums_;  // [parts, padded]; empty: not wanted
};

PlacedStrip TilePass::At(int64_t row, int64_t block) const {
  const int64_t lanes = kernels_.tile.lanes, column = block * kBlockColumns;
  const int64_t tiles = std::min(kBlockColumns, padded_ - column) / lanes;
  const int rows = static_cast<int>(std::min(kPanelRows, num_queries_ - row));
  return {{tile_.values + row * tile_.stride + column, tile_.stride, lanes, tiles, rows}, row, column};
}

// The strip of a panel and a block as logits.
PlacedStrip TilePass::Finished(int64_t row, int64_t block, float* positive_logit) const {
  const PlacedStrip placed = At(row, block);
  if (block == num_blocks_ - 1) {
    // Whatever lies past the last candidate might be NaN.
    for (int i = 0; i < placed.strip.rows; ++i) {
      float* values = tile_.values + (row + i) * tile_.stride;
      std::fill(values + num_candidates_, values + padded_, 0.0f);
    }
  }
  const int64_t column = placed.first_candidate;
  masking_.Finish(placed, {&keys_[column], &bias_[column]}, positive_logit);
  return placed;
}

void TilePass::AddSums(const RunningSums& rows, const RunningSums& columns, float* positive_logit) {
  row_maxima_.resize(num_blocks_ * num_queries_);
  row_sums_.resize(row_maxima_.size());
  if (columns.maxima != nullptr) {
    column_maxima_.assign(num_parts_ * padded_, -std::numeric_limits<float>::infinity());
    column_sums_.assign(column_maxima_.size(), 0.0f);
  }
  ForEachItem(parallel_, num_parts_ * num_blocks_,
              [&](int64_t item, int) { AddItem(item / num_blocks_, item % num_blocks_, positive_logit); });
  ForEachItem(parallel_, num_parts_, [&](int64_t part, int) { JoinRows(part, rows); });
  if (columns.maxima == nullptr) return;
  ForEachItem(parallel_, num_blocks_, [&](int64_t block, int) { JoinColumns(block, columns); });
}

void TilePass::AddItem(int64_t part, int64_t block, float* positive_logit) {
  for (int64_t row = part * kPartRows; row < end_of_part(part); row += kPanelRows) {
    const PlacedStrip placed = Finished(row, block, positive_logit);
    const int64_t place = block * num_queries_ + row;
    kernels_.row_sums(placed.strip, &row_maxima_[place], &row_sums_[place]);
    if (column_maxima_.empty()) continue;
    const int64_t column = part * padded_ + placed.first_candidate;
    kernels_.column_sums(placed.strip, &column_maxima_[column], &column_sums_[column]);
  }
}

void TilePass::JoinRows(int64_t part, const RunningSums& rows) const {
  for (int64_t row = part * kPartRows; row < end_of_part(part); ++row) {
    ExponentialSum joined{rows.maxima[row], rows.sums[row]};
    for (int64_t block = 0; block < num_blocks_; ++block) {
      joined.Add(row_maxima_[block * num_queries_ + row], row_sums_[block * num_queries_ + row]);
    }
    rows.maxima[row] = joined.maximum;
    rows.sums[row] = static_cast<float>(joined.sum);
  }
}

void TilePass::JoinColumns(int64_t block, const RunningSums& columns) const {
  for (int64_t d = block * kBlockColumns; d < std::min(num_candidates_, (block + 1) * kBlockColumns); ++d) {
    ExponentialSum joined{columns.maxima[d], columns.sums[d]};
    for (int64_t part = 0; part < num_parts_; ++part) {
      joined.Add(column_maxima_[part * padded_ + d], column_sums_[part * padded_ + d]);
    }
    columns.maxima[d] = joined.maximum;
    columns.sums[d] = static_cast<float>(joined.sum);
  }
}

void TilePass::KnownWeights(const BackwardTask& known) {
  const float scale = *tile_.inputs.scale;
  const std::vector<float> no_log_sum(kPanelRows);
  std::vector<float> row_lse(num_queries_), row_weight(num_queries_), column_lse, column_weight;
  for (int64_t q = 0; q < num_queries_; ++q) {
    row_lse[q] = Finite(known.row_lse[q]);
    row_weight[q] = known.grad_row_lse[q] * scale;
  }
  if (known.column_lse != nullptr) {
    column_lse.resize(padded_);
    column_weight.resize(padded_);
    for (int64_t d = 0; d < num_candidates_; ++d) {
      column_lse[d] = Finite(known.column_lse[d]);
      column_weight[d] = known.grad_column_lse[d] * scale;
    }
  }
  ForEachItem(parallel_, num_parts_ * num_blocks_, [&](int64_t item, int) {
    const int64_t part = item / num_blocks_, block = item % num_blocks_, column = block * kBlockColumns;
    const ColumnTerms columns = column_lse.empty() ? ColumnTerms{nullptr, nullptr}
                                                   : ColumnTerms{&column_lse[column], &column_weight[column]};
    for (int64_t row = part * kPartRows; row < end_of_part(part); row += kPanelRows) {
      const PlacedStrip placed = Finished(row, block, nullptr);
      kernels_.weights(placed.strip, {&row_lse[row], no_log_sum.data(), &row_weight[row]}, columns);
      masking_.ForEachPositive(placed, [&](int i, float& value) { value += known.grad_positive[row + i] * scale; });
    }
  });
}

void TilePass::LossWeights(const RunningSums& rows, float* positive_logit) {
  ForEachItem(parallel_, DivideUp(num_queries_, kPanelRows),
              [&](int64_t panel, int) { LossWeightsOfPanel(panel * kPanelRows, rows, positive_logit); });
}

void TilePass::LossWeightsOfPanel(int64_t row, const RunningSums& rows, float* positive_logit) const {
  const float scale = *tile_.inputs.scale;
  std::array<ExponentialSum, kPanelRows> joined;
  std::array<float, kPanelRows> maximum = {}, log_sum = {}, weight;
  for (int64_t block = 0; block < num_blocks_; ++block) {
    const PlacedStrip placed = Finished(row, block, positive_logit);
    kernels_.row_sums(placed.strip, maximum.data(), log_sum.data());
    for (int i = 0; i < placed.strip.rows; ++i) joined[i].Add(maximum[i], log_sum[i]);
  }
  weight.fill(scale);
  for (int64_t i = 0; i < std::min(kPanelRows, num_queries_ - row); ++i) {
    rows.maxima[row + i] = joined[i].maximum;
    rows.sums[row + i] = static_cast<float>(joined[i].sum);
    maximum[i] = Finite(joined[i].maximum);
    log_sum[i] = Finite(static_cast<float>(joined[i].Log()));
  }
  for (int64_t block = 0; block < num_blocks_; ++block) {
    const PlacedStrip placed = At(row, block);
    kernels_.weights(placed.strip, {maximum.data(), log_sum.data(), weight.data()}, {nullptr, nullptr});
    masking_.ForEachPositive(placed, [&](int, float& value) { value -= scale; });
  }
}

}  // namespace

int64_t FewestColumns(int64_t candidates) { return RoundUp(candidates, kMostLanes); }

void AddSums(const ProductTile& tile, const RunningSums& rows, const RunningSums& columns, float* positive_logit,
             InstructionSet instruction_set, const Parallel& parallel) {
  TilePass(tile, instruction_set, parallel).AddSums(rows, columns, positive_logit);
}

void KnownWeights(const ProductTile& tile, const BackwardTask& known, InstructionSet instruction_set,
                  const Parallel& parallel) {
  TilePass(tile, instruction_set, parallel).KnownWeights(known);
}

void LossWeights(const ProductTile& tile, const RunningSums& rows, float* positive_logit,
                 InstructionSet instruction_set, const Parallel& parallel) {
  TilePass(tile, instruction_set, parallel).LossWeights(rows, positive_logit);
}

}  // namespace hybatch::contrastive::cpu
