// Cuts a block of the pool into pieces of one group each, small enough to stay in a core's cache while all queries
// pass by.

#pragma once

#include <cstdint>
#include <vector>

#include "../contract.h"

namespace hybatch::ranking::cpu {

constexpr int32_t kNoGroup = -1;  // of candidates that are counted in no group

struct CandidateBlock {
  int32_t group;
  int64_t first;  // into `order`, or the row itself where that is empty
  int64_t count;
};

struct CandidateBlocks {
  std::vector<int32_t> order;  // rows by group; empty: as they stand
  std::vector<CandidateBlock> blocks;
};

CandidateBlocks CutIntoBlocks(const int32_t* groups, int64_t num_candidates, int64_t num_groups, int64_t largest_block);

}  // namespace hybatch::ranking::cpu
