// Counting scores that are known to lie within a band: what the band leaves undecided is queued, scored again by the
// fp32 chain and counted as if the first score had never been. If the queue is too short, the fp32 kernel counts
// everything. Host code can test it.

#pragma once

#include <atomic>
#include <cstdint>

#include "common/cuda/host_device.h"
#include "score_band.h"
#include "thresholds.h"
#include "tile_counts.h"

namespace hybatch::ranking::cuda {

struct QueuedPair {
  int32_t query;
  int32_t row;  // of the candidates
};

struct RescoringQueue {
  QueuedPair* pairs;           // [capacity]
  unsigned long long* length;  // of pairs, those that found no room included
  int64_t capacity;

  HYBATCH_HD bool Overflowed() const { return *length > static_cast<unsigned long long>(capacity); }

  // The first of `count` places; those at and beyond the capacity do not exist.
  HYBATCH_HD int64_t Reserve(int32_t count) const {
#ifdef __CUDA_ARCH__
    return static_cast<int64_t>(atomicAdd(length, static_cast<unsigned long long>(count)));
#else
    const auto added = static_cast<unsigned long long>(count);
    return static_cast<int64_t>(std::atomic_ref(*length).fetch_add(added, std::memory_order_relaxed));
#endif
  }

  HYBATCH_HD void Put(int64_t place, const QueuedPair& pair) const {
    if (place < capacity) pairs[place] = pair;
  }
};

// What the pass over rounded embeddings is given.
struct Rescoring {
  RowSize* queries;  // [Q]
  RowSize* tiles;    // [tiles] the largest of their candidates
  BandTerms terms;
  RescoringQueue queue;
};

// As CountScore, for a score that is wrong by at most `band`; false, and nothing counted, if it may be on either side
// of a threshold. An infinite band and a score that is not a number leave everything undecided.
template <class Sink>
HYBATCH_HD inline bool CountDecided(float score, float band, const float* thresholds, int32_t count, Sink& sink) {
  const int32_t below = NumberBelow(LowerEnd(score, band), thresholds, count);
  if (below < count) {
    const float next = thresholds[below];
    const bool reachable = !(next > UpperEnd(score, band)) && next == next;  // nothing equals what is no number
    if (reachable) return false;
  }
  if (below > 0) sink.Beats(below - 1);
  return true;
}

// What a thread block keeps in shared memory, beside TileCounts, while it counts scores within bands.
template <int kQueries>
struct TileBands {
  static constexpr int kColumnBits = 8;
  static constexpr int32_t kCapacity = 1024;  // undecided pairs beyond these go to the queue one by one

  float band[kQueries];
  uint16_t undecided[kCapacity];  // query and column of the tile
  int32_t num_undecided;
  int64_t place;  // in the queue, of the first

  // Called by all threads between TileCounts::Load and a barrier. Lowers the lowest thresholds by the bands.
  HYBATCH_HD void Load(const Rescoring& rescoring, int32_t tile, int32_t first_query, int thread, int num_threads,
                       TileCounts<kQueries>& counts) {
    if (thread == 0) num_undecided = 0;
    for (int i = thread; i < kQueries; i += num_threads) {
      if (counts.first[i + 1] == counts.first[i]) continue;
      band[i] = BandOf(rescoring.queries[first_query + i], rescoring.tiles[tile], rescoring.terms);
      counts.lowest[i] = LowerEnd(counts.lowest[i], band[i]);
    }
  }

  HYBATCH_HD void Push(int32_t query, int32_t column, const QueuedPair& pair, const RescoringQueue& queue) {
    const int32_t at = AddTo(&num_undecided, 1);
    if (at < kCapacity) {
      undecided[at] = static_cast<uint16_t>(query << kColumnBits | column);
    } else {
      queue.Put(queue.Reserve(1), pair);
    }
  }

  // Called by all threads once every score of a tile has been looked at; `first` holds the tile's first query and row.
  template <class Barrier>
  HYBATCH_HD void Flush(const QueuedPair& first, const RescoringQueue& queue, int thread, int num_threads,
                        Barrier barrier) {
    const int32_t count = num_undecided < kCapacity ? num_undecided : kCapacity;
    if (count == 0) return;  // for all threads alike
    if (thread == 0) place = queue.Reserve(count);
    barrier();
    for (int i = thread; i < count; i += num_threads) {
      const int32_t column = undecided[i] & ((1 << kColumnBits) - 1);
      queue.Put(place + i, {first.query + (undecided[i] >> kColumnBits), first.row + column});
    }
  }
};

// As CountInTile, for a score within its query's band.
template <int kQueries>
HYBATCH_HD inline void CountWithinBand(float score, int32_t query, const QueuedPair& first,
                                       const RescoringQueue& queue, TileBands<kQueries>& bands,
                                       ScoreSink<kQueries>& sink) {
  const float* thresholds = sink.counts.Thresholds(sink.tables, query);
  if (!CountDecided(score, bands.band[query], thresholds, sink.counts.NumThresholds(query), sink)) {
    bands.Push(query, sink.column, {first.query + query, first.row + sink.column}, queue);
  }
}

// Counts a queued pair by the fp32 chain's score.
struct PairSink {
  const CountTables& tables;
  int64_t first;  // first position of the query
  int32_t row;
  int32_t& self_hits;

  HYBATCH_HD void Beats(int32_t k) { CountBeaten(tables, first + k, GroupOf(tables, row)); }
  HYBATCH_HD void Ties(int32_t k) { CountTie(tables, first + k, row, GroupOf(tables, row), self_hits); }
};

HYBATCH_HD inline void CountQueued(float score, const QueuedPair& pair, const CountTables& tables,
                                   int32_t& self_hits) {
  const int64_t first = tables.offsets[pair.query];
  const auto count = static_cast<int32_t>(tables.offsets[pair.query + 1] - first);
  PairSink sink{tables, first, pair.row, self_hits};
  CountScore(score, tables.sorted.values + first, count, sink);
}

}  // namespace hybatch::ranking::cuda
