// What a thread block keeps in shared memory while it counts the scores of a tile: the thresholds of the tile's
// queries and how often each was beaten. All product kernels share it; host code, as a single thread, can test it.

#pragma once

#include <atomic>
#include <cstdint>

#include "../contract.h"
#include "candidate_tiles.h"
#include "common/cuda/elements.h"
#include "thresholds.h"

namespace hybatch::ranking::cuda {

constexpr int kSharedPositions = 1792;  // more positives than these in a block of queries are counted in global memory

// The parts of a task that counting reads, with the sizes it needs.
struct CountTables {
  const int64_t* offsets;
  const int64_t* positive_index;
  const int32_t* groups;
  int32_t num_queries;
  int64_t num_groups;
  int64_t first_index;
  int32_t* tied_before;
  int32_t* tied_after;
  SortedThresholds sorted;
};

inline CountTables TablesOf(const CountAboveTask& task, const SortedThresholds& sorted) {
  return {task.offsets,     task.positive_index, task.groups,      static_cast<int32_t>(task.queries.rows),
          task.num_groups, task.first_index,    task.tied_before, task.tied_after,
          sorted};
}

// Adds atomically; returns what was there before.
HYBATCH_HD inline int32_t AddTo(int32_t* counter, int32_t value) {
#ifdef __CUDA_ARCH__
  return atomicAdd(counter, value);
#else
  return std::atomic_ref(*counter).fetch_add(value, std::memory_order_relaxed);
#endif
}

template <int kQueries>
struct TileCounts {
  float lowest[kQueries];         // lowest threshold; infinity: none, or no such query
  int32_t first[kQueries + 1];    // first position of each query, from `base`
  float thresholds[kSharedPositions];
  int32_t beaten[kSharedPositions];
  int64_t base;

  HYBATCH_HD int32_t num_positions() const { return first[kQueries]; }
  HYBATCH_HD bool fits() const { return num_positions() <= kSharedPositions; }
  HYBATCH_HD int32_t NumThresholds(int32_t query) const { return first[query + 1] - first[query]; }
  HYBATCH_HD const float* Thresholds(const CountTables& tables, int32_t query) const {
    return (fits() ? thresholds : tables.sorted.values + base) + first[query];
  }

  // Called by all `num_threads` threads, with barriers of the caller's kind.
  template <class Barrier>
  HYBATCH_HD void Load(const CountTables& tables, int32_t first_query, int thread, int num_threads, Barrier barrier) {
    const int64_t block_base = tables.offsets[first_query];
    for (int i = thread; i <= kQueries; i += num_threads) {
      const int32_t query = first_query + i;
      const int64_t begin = tables.offsets[query < tables.num_queries ? query : tables.num_queries];
      first[i] = static_cast<int32_t>(begin - block_base);
      if (i == kQueries) continue;
      const bool has_positives = query < tables.num_queries && tables.offsets[query + 1] > begin;
      lowest[i] = has_positives ? tables.sorted.values[begin] : FloatFromBits(0x7f800000u);
    }
    if (thread == 0) base = block_base;
    barrier();
    if (fits()) {
      for (int i = thread; i < num_positions(); i += num_threads) {
        thresholds[i] = tables.sorted.values[block_base + i];
        beaten[i] = 0;
      }
    }
    barrier();
  }

  // Called by all threads once every count of a tile of one group has been made.
  HYBATCH_HD void Flush(const CountTables& tables, int32_t group, int thread, int num_threads) {
    if (group < 0 || !fits()) return;
    for (int i = thread; i < num_positions(); i += num_threads) {
      const int32_t count = beaten[i];
      if (count != 0) AddTo(&tables.sorted.beaten[(base + i) * tables.num_groups + group], count);
    }
  }
};

HYBATCH_HD inline int32_t GroupOf(const CountTables& tables, int32_t row) {
  const int32_t group = tables.groups[row];
  return group >= 0 && group < tables.num_groups ? group : kNoGroup;
}

// A candidate of a group that beats the threshold at a position, and none of a higher one.
HYBATCH_HD inline void CountBeaten(const CountTables& tables, int64_t position, int32_t group) {
  if (group != kNoGroup) AddTo(&tables.sorted.beaten[position * tables.num_groups + group], 1);
}

// A candidate of a group that equals the threshold at a position.
HYBATCH_HD inline void CountTie(const CountTables& tables, int64_t position, int32_t row, int32_t group,
                              int32_t& self_hits) {
  const int64_t positive = tables.sorted.positive[position];
  const int64_t index = tables.first_index + row;
  const int64_t own_index = tables.positive_index[positive];
  if (index == own_index) {
    ++self_hits;
  } else if (group != kNoGroup) {
    int32_t* table = index < own_index ? tables.tied_before : tables.tied_after;
    AddTo(&table[positive * tables.num_groups + group], 1);
  }
}

// Counts a score of one candidate of a tile.
template <int kQueries>
struct ScoreSink {
  TileCounts<kQueries>& counts;
  const CountTables& tables;
  const CandidateTiles& tiles;
  const CandidateTile& tile;
  int32_t column;
  int32_t first;  // first position of the query, from counts.base
  int32_t& self_hits;

  HYBATCH_HD int32_t Row() const { return tiles.Row(tile.first + column); }
  HYBATCH_HD int32_t Group() const { return tile.group != kMixedGroups ? tile.group : GroupOf(tables, Row()); }

  HYBATCH_HD void Beats(int32_t k) {
    if (tile.group >= 0 && counts.fits()) {
      AddTo(&counts.beaten[first + k], 1);
    } else {
      CountBeaten(tables, counts.base + first + k, Group());
    }
  }

  HYBATCH_HD void Ties(int32_t k) { CountTie(tables, counts.base + first + k, Row(), Group(), self_hits); }
};

// A score at or above its query's lowest threshold, in a column that holds a candidate.
template <int kQueries>
HYBATCH_HD inline void CountInTile(float score, int32_t query, ScoreSink<kQueries>& sink) {
  CountScore(score, sink.counts.Thresholds(sink.tables, query), sink.counts.NumThresholds(query), sink);
}

#ifdef __CUDACC__
__device__ inline void AddSelfHits(int32_t self_hits, int64_t* status) {
  const int32_t sum = __reduce_add_sync(0xffffffffu, self_hits);
  if (threadIdx.x % 32 == 0 && sum != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(status + kSelfHits), static_cast<unsigned long long>(sum));
  }
}
#endif

}  // namespace hybatch::ranking::cuda
