#include "best_candidates.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace hybatch::ranking::cpu {
namespace {

constexpr CandidateKey kNobody = std::numeric_limits<CandidateKey>::min();
constexpr int64_t kLeastRoom = 32;  // beside the places that are wanted: thinning out has to pay
constexpr int64_t kQueriesPerItem = 256;

// As signed integers the bits of positive floats ascend, those of negative ones descend.
int32_t Ordered(int32_t bits) { return bits >= 0 ? bits : bits ^ std::numeric_limits<int32_t>::max(); }

CandidateKey KeyOf(float score, int64_t index) {
  const int32_t bits = std::bit_cast<int32_t>(score + 0.0f);  // -0 becomes +0, which it equals
  return static_cast<CandidateKey>(static_cast<uint64_t>(Ordered(bits)) << 32 | (~static_cast<uint64_t>(index) & ~0u));
}

float ScoreOf(CandidateKey key) {
  if (key == kNobody) return -std::numeric_limits<float>::infinity();
  return std::bit_cast<float>(Ordered(static_cast<int32_t>(key >> 32)));
}

int64_t IndexOf(CandidateKey key) { return key == kNobody ? -1 : static_cast<int64_t>(~static_cast<uint32_t>(key)); }

template <typename Body>
void ForEachQuery(const Parallel& parallel, int64_t num_queries, const Body& body) {
  ForEachItem(parallel, (num_queries + kQueriesPerItem - 1) / kQueriesPerItem, [&](int64_t item, int) {
    const int64_t end = std::min((item + 1) * kQueriesPerItem, num_queries);
    for (int64_t query = item * kQueriesPerItem; query < end; ++query) body(query);
  });
}

}  // namespace

BestCandidates::BestCandidates(const CountAboveTask& count, const BestCandidatesTask& task, const Parallel& parallel)
    : task_(task),
      first_index_(count.first_index),
      num_queries_(count.queries.rows),
      num_groups_(count.num_groups),
      capacity_(task.places + std::max(task.places, kLeastRoom)),
      keys_(new CandidateKey[num_queries_ * capacity_]),
      counts_(num_queries_, 0),
      lowest_(num_queries_, kNobody),
      of_group_(num_queries_ * num_groups_, kNobody) {
  ForEachQuery(parallel, num_queries_, [this](int64_t query) { Read(query); });
}

float BestCandidates::lowest(int64_t query) const { return ScoreOf(lowest_[query]); }

float BestCandidates::best(int64_t query, int64_t group) const {
  return ScoreOf(of_group_[query * num_groups_ + group]);
}

void BestCandidates::Offer(int64_t query, int64_t group, const OfferedCandidates& offered) {
  CandidateKey best = of_group_[query * num_groups_ + group];
  for (int64_t n = 0; n < offered.count; ++n) {
    const int64_t place = offered.first + offered.found[n].place;
    const int64_t row = offered.order == nullptr ? place : offered.order[place];
    const CandidateKey key = KeyOf(offered.found[n].score, first_index_ + row);
    best = std::max(best, key);
    if (key <= lowest_[query]) continue;
    if (counts_[query] == capacity_) ThinOut(query);
    room(query)[counts_[query]++] = key;
  }
  of_group_[query * num_groups_ + group] = best;
}

void BestCandidates::ThinOut(int64_t query) {
  CandidateKey* keys = room(query);
  std::nth_element(keys, keys + task_.places - 1, keys + counts_[query], std::greater<CandidateKey>());
  counts_[query] = task_.places;
  lowest_[query] = keys[task_.places - 1];
}

void BestCandidates::Read(int64_t query) {
  for (int64_t place = query * task_.places; place < (query + 1) * task_.places; ++place) {
    if (task_.best_index[place] < 0) continue;
    room(query)[counts_[query]++] = KeyOf(task_.best_scores[place], task_.best_index[place]);
  }
  if (counts_[query] == task_.places) lowest_[query] = *std::min_element(room(query), room(query) + task_.places);
  for (int64_t cell = query * num_groups_; cell < (query + 1) * num_groups_; ++cell) {
    if (task_.group_index[cell] >= 0) of_group_[cell] = KeyOf(task_.group_scores[cell], task_.group_index[cell]);
  }
}

void BestCandidates::Write(const Parallel& parallel) {
  ForEachQuery(parallel, num_queries_, [this](int64_t query) { WriteQuery(query); });
}

void BestCandidates::WriteQuery(int64_t query) {
  if (counts_[query] > task_.places) ThinOut(query);
  for (int64_t place = 0; place < task_.places; ++place) {
    const CandidateKey key = place < counts_[query] ? room(query)[place] : kNobody;
    task_.best_scores[query * task_.places + place] = ScoreOf(key);
    task_.best_index[query * task_.places + place] = IndexOf(key);
  }
  for (int64_t cell = query * num_groups_; cell < (query + 1) * num_groups_; ++cell) {
    task_.group_scores[cell] = ScoreOf(of_group_[cell]);
    task_.group_index[cell] = IndexOf(of_group_[cell]);
  }
}

}  // namespace hybatch::ranking::cpu
