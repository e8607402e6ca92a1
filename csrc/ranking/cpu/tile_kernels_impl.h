// Generic bodies of the tile kernels, instantiated by one translation unit per instruction set.
//
// Each of those is compiled with flags of its own, so nothing here may end up in a function that the linker could
// share between them: all is in an unnamed namespace, and no inline function of the standard library is called.
//
// An `Arch` gives: kRows, kLanes; Multiply; MaskAtLeast (bits of the lanes whose score is >= a value); MaskBelow and
// MaskEqual (bits of the kWindow thresholds that are below, or equal to, a score); Fma.

#pragma once

#include "tile_kernels.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr int64_t kChunk = 64;  // hidden positions packed at once: one source row's cache lines, one panel's 8 KB
constexpr uint32_t kMagnitudeBits = 0x7fffffffu;
constexpr uint32_t kInfinityBits = 0x7f800000u;

inline float FloatFromBits(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// Exact: every binary16 value, subnormals and NaN included, is a binary32 value.
inline float FloatFromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  if (magnitude >= 0x7c00u) return FloatFromBits(sign | kInfinityBits | ((magnitude & 0x3ffu) << 13));
  if (magnitude < 0x400u) {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return FloatFromBits(sign | __builtin_bit_cast(uint32_t, value));
  }
  return FloatFromBits(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
}

// Returns `count` values of a row from position `begin` on as fp32, in place where they are fp32 already.
inline const float* LoadRow(const Matrix& matrix, int64_t row, int64_t begin, int64_t count, float* buffer) {
  const int64_t start = row * matrix.width + begin;
  if (matrix.type == ElementType::kFloat32) return static_cast<const float*>(matrix.data) + start;
  const uint16_t* source = static_cast<const uint16_t*>(matrix.data) + start;
  if (matrix.type == ElementType::kBFloat16) {
    for (int64_t h = 0; h < count; ++h) buffer[h] = FloatFromBits(static_cast<uint32_t>(source[h]) << 16);
  } else {
    for (int64_t h = 0; h < count; ++h) buffer[h] = FloatFromHalf(source[h]);
  }
  return buffer;
}

// As bit patterns magnitudes are ordered like integers, with infinity and NaN above all numbers.
inline uint32_t LargestMagnitudeBits(const float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t h = 0; h < count; ++h) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, values[h]) & kMagnitudeBits;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <int kSide>
PanelSummary Pack(const PanelSource& source, float* panel) {
  uint32_t largest[kSide] = {};
  float buffer[kChunk];
  for (int64_t begin = 0; begin < source.matrix.width; begin += kChunk) {
    const int64_t rest = source.matrix.width - begin;
    const int64_t count = rest < kChunk ? rest : kChunk;
    float* chunk = panel + begin * kSide;
    for (int i = 0; i < kSide; ++i) {
      if (i >= source.count) {
        for (int64_t h = 0; h < count; ++h) chunk[h * kSide + i] = 0.0f;
        continue;
      }
      const int64_t row = source.order == nullptr ? source.first + i : source.order[source.first + i];
      const float* values = LoadRow(source.matrix, row, begin, count, buffer);
      const uint32_t bits = LargestMagnitudeBits(values, count);
      largest[i] = bits > largest[i] ? bits : largest[i];
      for (int64_t h = 0; h < count; ++h) chunk[h * kSide + i] = values[h];
    }
  }
  PanelSummary summary = {0, 0.0f};
  for (int i = 0; i < kSide; ++i) {
    if (largest[i] >= kInfinityBits) continue;
    summary.finite |= 1u << i;
    const float magnitude = FloatFromBits(largest[i]);
    summary.largest = magnitude > summary.largest ? magnitude : summary.largest;
  }
  return summary;
}

// Finds how many of a query's ascending thresholds are below `score`: by bisection down to one window, then at once.
template <typename Arch>
inline void CountScore(const TileCount& tile, int64_t first, int64_t end, int lane, float score) {
  int64_t base = first;
  int64_t size = end - first;
  while (size > kWindow) {
    const int64_t half = size / 2;
    if (tile.thresholds[base + half - 1] < score) base += half;
    size -= half;
  }
  const uint32_t in_window = (1u << size) - 1;
  const float* window = tile.thresholds + base;
  const uint32_t below = Arch::MaskBelow(window, score) & in_window;
  const int64_t position = base + __builtin_popcount(below);
  if (position > first) ++tile.beaten[position - 1 - tile.offsets[0]];
  if ((Arch::MaskEqual(window, score) & in_window) == 0) return;
  for (int64_t tied = position; tied < end && tile.thresholds[tied] == score; ++tied) {
    tile.tie(tile.context, tied, lane);
  }
}

// Most rows end at the first test, against the query's lowest threshold.
template <typename Arch>
void Count(const TileCount& tile) {
  for (int i = 0; i < tile.num_queries; ++i) {
    const float* scores = tile.scores + i * Arch::kLanes;
    uint32_t candidates = Arch::MaskAtLeast(scores, tile.lowest[i]) & tile.lanes_in_use;
    for (; candidates != 0; candidates &= candidates - 1) {
      const int lane = __builtin_ctz(candidates);
      CountScore<Arch>(tile, tile.offsets[i], tile.offsets[i + 1], lane, scores[lane]);
    }
  }
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
constexpr TileKernels MakeKernels() {
  static_assert(Arch::kRows <= kMaxTileSide && Arch::kLanes <= kMaxTileSide);
  return {Arch::kRows,    Arch::kLanes, &Pack<Arch::kRows>, &Pack<Arch::kLanes>,
          &Arch::Multiply, &Count<Arch>, &PairScores<Arch>};
}

}  // namespace
}  // namespace hybatch::ranking::cpu
