#include "packed_queries.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace hybatch::ranking::cpu {

PackedQueries::PackedQueries(const CountAboveTask& task, const TileKernels& tile, const Parallel& parallel)
    : task_(task), tile_(tile), positions_(tile.Positions(task.queries.width)) {
  const int64_t num_panels = (task.queries.rows + tile.rows - 1) / tile.rows;
  const int64_t num_positives = task.offsets[task.queries.rows];
  values_ = MakeAlignedBuffer(num_panels * tile.rows * positions_);
  summaries_.resize(num_panels);
  lowest_.resize(task.queries.rows);
  thresholds_.resize(num_positives + kWindow);
  positives_.resize(num_positives);
  ForEachItem(parallel, num_panels, [this](int64_t panel, int) { PackPanel(panel); });
}

int PackedQueries::num_queries(int64_t panel) const {
  return static_cast<int>(std::min<int64_t>(tile_.rows, task_.queries.rows - first_query(panel)));
}

bool PackedQueries::finite() const {
  const uint32_t all = tile_.rows == 32 ? ~0u : (1u << tile_.rows) - 1;
  return std::all_of(summaries_.begin(), summaries_.end(),
                     [all](const PanelSummary& summary) { return summary.finite == all; });
}

int64_t PackedQueries::largest_panel() const {
  int64_t largest = 0;
  for (int64_t panel = 0; panel < panels(); ++panel) {
    largest = std::max(largest, end_position(panel) - first_position(panel));
  }
  return largest;
}

void PackedQueries::PackPanel(int64_t panel) {
  const int count = num_queries(panel);
  const PanelSource source = {task_.queries, nullptr, first_query(panel), count};
  summaries_[panel] = tile_.pack_queries(source, values_.get() + panel * tile_.rows * positions_);
  for (int i = 0; i < count; ++i) SortThresholds(first_query(panel) + i);
}

void PackedQueries::SortThresholds(int64_t query) {
  const int64_t begin = task_.offsets[query];
  const int64_t end = task_.offsets[query + 1];
  const float* thresholds = task_.thresholds;
  std::iota(positives_.begin() + begin, positives_.begin() + end, begin);
  std::sort(positives_.begin() + begin, positives_.begin() + end, [thresholds](int64_t a, int64_t b) {
    // NaN, from a query that is not finite, goes last: without a place of its own it would break the order.
    if (std::isnan(thresholds[a]) || std::isnan(thresholds[b])) return !std::isnan(thresholds[a]);
    return thresholds[a] < thresholds[b];
  });
  for (int64_t position = begin; position < end; ++position) thresholds_[position] = thresholds[positives_[position]];
  lowest_[query] = begin == end ? std::numeric_limits<float>::infinity() : thresholds_[begin];
}

}  // namespace hybatch::ranking::cpu
