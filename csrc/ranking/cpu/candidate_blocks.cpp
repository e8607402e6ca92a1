#include "candidate_blocks.h"

#include <algorithm>

namespace hybatch::ranking::cpu {
namespace {

// A tile has one group, so that runs shorter than this would leave too many of its lanes empty.
constexpr int64_t kWorthwhileRun = 256;

class Groups {
 public:
  Groups(const int32_t* groups, int64_t num_groups) : groups_(groups), num_groups_(num_groups) {}
  int32_t operator[](int64_t row) const {
    const int32_t group = groups_[row];
    return group >= 0 && group < num_groups_ ? group : kNoGroup;
  }

 private:
  const int32_t* groups_;
  int64_t num_groups_;
};

bool RunsAreLong(const Groups& groups, int64_t num_candidates, int64_t num_groups) {
  int64_t runs = 1;
  for (int64_t row = 1; row < num_candidates; ++row) runs += groups[row] != groups[row - 1];
  return runs <= num_groups + 1 + num_candidates / kWorthwhileRun;
}

std::vector<int32_t> RowsByGroup(const Groups& groups, int64_t num_candidates, int64_t num_groups) {
  // One place more in front for kNoGroup.
  std::vector<int64_t> next(num_groups + 2, 0);
  for (int64_t row = 0; row < num_candidates; ++row) ++next[groups[row] + 2];
  for (int64_t group = 1; group < num_groups + 2; ++group) next[group] += next[group - 1];
  std::vector<int32_t> order(num_candidates);
  for (int64_t row = 0; row < num_candidates; ++row) order[next[groups[row] + 1]++] = static_cast<int32_t>(row);
  return order;
}

}  // namespace

CandidateBlocks CutIntoBlocks(const int32_t* groups, int64_t num_candidates, int64_t num_groups,
                              int64_t largest_block) {
  const Groups group_of(groups, num_groups);
  CandidateBlocks result;
  if (!RunsAreLong(group_of, num_candidates, num_groups)) {
    result.order = RowsByGroup(group_of, num_candidates, num_groups);
  }
  const auto group_at = [&](int64_t position) {
    return group_of[result.order.empty() ? position : result.order[position]];
  };
  for (int64_t first = 0; first < num_candidates;) {
    const int32_t group = group_at(first);
    int64_t end = first + 1;
    while (end < num_candidates && end - first < largest_block && group_at(end) == group) ++end;
    result.blocks.push_back({group, first, end - first});
    first = end;
  }
  return result;
}

}  // namespace hybatch::ranking::cpu
