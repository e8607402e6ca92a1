// Generic bodies of the rank kernels, instantiated by one translation unit per instruction set. As in the tile kernels,
// nothing here may end up in a function that the linker could share between those units.
//
// An `Arch` gives: kLanes, of its tiles; MaskAtLeast (bits of the lanes whose score is >= a value); MaskBelow and
// MaskEqual (bits of the kWindow thresholds that are below, or equal to, a score); Fma.

#pragma once

#include "common/cpu/row_values_impl.h"
#include "rank_kernels.h"

namespace hybatch::ranking::cpu {
namespace {

// Finds how many of a query's ascending thresholds are below `score`: by bisection down to one window, then at once.
template <typename Arch>
inline void CountScore(const PanelCount& panel, int64_t first, int64_t end, int64_t place, float score) {
  int64_t base = first;
  int64_t size = end - first;
  while (size > kWindow) {
    const int64_t half = size / 2;
    if (panel.thresholds[base + half - 1] < score) base += half;
    size -= half;
  }
  const uint32_t in_window = (1u << size) - 1;
  const float* window = panel.thresholds + base;
  const uint32_t below = Arch::MaskBelow(window, score) & in_window;
  const int64_t position = base + __builtin_popcount(below);
  if (position > first) ++panel.beaten[position - 1 - panel.offsets[0]];
  if ((Arch::MaskEqual(window, score) & in_window) == 0) return;
  for (int64_t tied = position; tied < end && panel.thresholds[tied] == score; ++tied) {
    panel.tie(panel.context, tied, place);
  }
}

// Bits of the lanes of the tiles first, first + 1, ..., as many as a word holds, whose score is at least the query's
// lowest threshold.
template <typename Arch>
inline uint64_t Candidates(const PanelCount& panel, int query, int64_t first) {
  constexpr int64_t kTilesPerWord = 64 / Arch::kLanes;
  const int64_t stride = panel.rows * Arch::kLanes;
  const float* scores = panel.scores + first * stride + query * Arch::kLanes;
  const int64_t tiles = panel.tiles - first < kTilesPerWord ? panel.tiles - first : kTilesPerWord;
  uint64_t candidates = 0;
  for (int64_t i = 0; i < tiles; ++i) {
    const uint32_t in_use = first + i + 1 == panel.tiles ? panel.last_lanes : ~0u;
    const uint32_t of_tile = Arch::MaskAtLeast(scores + i * stride, panel.lowest[query]) & in_use;
    candidates |= static_cast<uint64_t>(of_tile) << i * Arch::kLanes;
  }
  return candidates;
}

// Most scores end at the first test, against the query's lowest threshold. What passes it is taken a word of lanes at a
// time: a loop over the few of one tile would end where no processor expects it.
template <typename Arch>
void Count(const PanelCount& panel) {
  constexpr int64_t kTilesPerWord = 64 / Arch::kLanes;
  for (int query = 0; query < panel.num_queries; ++query) {
    const int64_t first_threshold = panel.offsets[query], end = panel.offsets[query + 1];
    for (int64_t first = 0; first < panel.tiles; first += kTilesPerWord) {
      uint64_t candidates = Candidates<Arch>(panel, query, first);
      for (; candidates != 0; candidates &= candidates - 1) {
        const int64_t place = first * Arch::kLanes + __builtin_ctzll(candidates);
        const int64_t of_row = place / Arch::kLanes * panel.rows + query;
        CountScore<Arch>(panel, first_threshold, end, place, panel.scores[of_row * Arch::kLanes + place % Arch::kLanes]);
      }
    }
  }
}

template <typename Arch>
int64_t Reaching(const ScoreRow& row, float lowest, float best, ReachingScore* found) {
  int64_t count = 0;
  float bound = lowest < best ? lowest : best;
  for (int64_t tile = 0; tile < row.tiles; ++tile) {
    const float* scores = row.scores + tile * row.stride;
    uint32_t candidates = Arch::MaskAtLeast(scores, bound);
    if (tile + 1 == row.tiles) candidates &= row.last_lanes;
    for (; candidates != 0; candidates &= candidates - 1) {
      const int lane = __builtin_ctz(candidates);
      const float score = scores[lane];
      if (score < bound) continue;
      found[count++] = {score, static_cast<int32_t>(tile * Arch::kLanes + lane)};
      best = score > best ? score : best;
      bound = lowest < best ? lowest : best;
    }
  }
  return count;
}

// Independent chains side by side: one alone would wait for its own latency at every step.
template <typename Arch>
void ScoreChains(const float* query, const float* const (&rows)[kPairChains], int64_t width, float* scores) {
  float chains[kPairChains] = {};
  for (int64_t h = 0; h < width; ++h) {
    for (int i = 0; i < kPairChains; ++i) chains[i] = Arch::Fma(query[h], rows[i][h], chains[i]);
  }
  for (int i = 0; i < kPairChains; ++i) scores[i] = chains[i];
}

template <typename Arch>
void PairScores(const PairScoresTask& task, int64_t first, int64_t end, float* scratch) {
  const int64_t width = task.queries.width;
  float scores[kPairChains];
  const float* rows[kPairChains];
  for (int64_t q = first; q < end; ++q) {
    const float* query = LoadRow(task.queries, q, 0, width, scratch);
    for (int64_t p = task.offsets[q]; p < task.offsets[q + 1]; p += kPairChains) {
      const int64_t rest = task.offsets[q + 1] - p;
      const int count = rest < kPairChains ? static_cast<int>(rest) : kPairChains;
      for (int i = 0; i < kPairChains; ++i) {
        // Idle chains repeat the first pair, whose values are at hand.
        const int64_t row = i >= count ? -1 : task.rows == nullptr ? p + i : task.rows[p + i];
        rows[i] = row < 0 ? rows[0] : LoadRow(task.embeddings, row, 0, width, scratch + (i + 1) * width);
      }
      ScoreChains<Arch>(query, rows, width, scores);
      for (int i = 0; i < count; ++i) task.scores[p + i] = scores[i];
    }
  }
}

template <typename Arch>
RankKernels MakeRankKernels(const TileKernels& tile) {
  if (tile.lanes != Arch::kLanes) __builtin_trap();
  return {tile, &Count<Arch>, &Reaching<Arch>, &PairScores<Arch>};
}

}  // namespace
}  // namespace hybatch::ranking::cpu
