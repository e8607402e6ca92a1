// The best candidates of every query while scores stream by: room for more than are wanted, thinned out when it is full.

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../contract.h"
#include "common/cpu/parallel.h"
#include "rank_kernels.h"

namespace hybatch::ranking::cpu {

// A candidate's score and index as one number: of two candidates the better one has the greater.
using CandidateKey = int64_t;

struct OfferedCandidates {
  const ReachingScore* found;
  int64_t count;
  int64_t first;         // place in `order` of the row's first candidate
  const int32_t* order;  // rows of the block; null: the identity
};

// Queries may be worked on at the same time, one query by one thread at a time.
class BestCandidates {
 public:
  BestCandidates(const CountAboveTask& count, const BestCandidatesTask& task, const Parallel& parallel);

  // A candidate of the group whose score is below both of these is not wanted.
  float lowest(int64_t query) const;
  float best(int64_t query, int64_t group) const;
  void Offer(int64_t query, int64_t group, const OfferedCandidates& offered);
  void Write(const Parallel& parallel);  // to the task

 private:
  CandidateKey* room(int64_t query) { return keys_.get() + query * capacity_; }
  void Read(int64_t query);
  void WriteQuery(int64_t query);
  void ThinOut(int64_t query);

  const BestCandidatesTask& task_;
  const int64_t first_index_;
  const int64_t num_queries_;
  const int64_t num_groups_;
  const int64_t capacity_;
  std::unique_ptr<CandidateKey[]> keys_;  // [Q, capacity]
  std::vector<int64_t> counts_;           // [Q] keys there are
  std::vector<CandidateKey> lowest_;      // [Q] no greater than the K-th best key
  std::vector<CandidateKey> of_group_;    // [Q, G] the best key of each
};

}  // namespace hybatch::ranking::cpu
