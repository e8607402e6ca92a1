// What the count needs of the queries: their panels, and each one's thresholds in ascending order.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../contract.h"
#include "common/cpu/aligned_buffer.h"
#include "common/cpu/parallel.h"
#include "rank_kernels.h"

namespace hybatch::ranking::cpu {

class PackedQueries {
 public:
  PackedQueries(const CountAboveTask& task, const TileKernels& tile, const Parallel& parallel);

  int64_t panels() const { return static_cast<int64_t>(summaries_.size()); }
  bool finite() const;
  int64_t largest_panel() const;  // positives of the panel that has most

  int64_t first_query(int64_t panel) const { return panel * tile_.rows; }
  int num_queries(int64_t panel) const;
  int64_t first_position(int64_t panel) const { return task_.offsets[first_query(panel)]; }
  int64_t end_position(int64_t panel) const { return task_.offsets[first_query(panel) + num_queries(panel)]; }

  const float* values(int64_t panel) const { return values_.get() + panel * tile_.rows * positions_; }
  const PanelSummary& summary(int64_t panel) const { return summaries_[panel]; }
  const float* lowest(int64_t panel) const { return lowest_.data() + first_query(panel); }
  const float* thresholds() const { return thresholds_.data(); }  // by position
  int64_t positive(int64_t position) const { return positives_[position]; }

 private:
  void PackPanel(int64_t panel);
  void SortThresholds(int64_t query);

  const CountAboveTask& task_;
  const TileKernels& tile_;
  const int64_t positions_;  // of a panel
  AlignedBuffer values_;
  std::vector<PanelSummary> summaries_;
  std::vector<float> lowest_;        // [Q]
  std::vector<float> thresholds_;    // [P + kWindow]
  std::vector<int64_t> positives_;   // [P]
};

}  // namespace hybatch::ranking::cpu
