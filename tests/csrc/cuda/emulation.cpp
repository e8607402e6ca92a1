// The CUDA kernels' index arithmetic and counting logic, run on the host: every tile, work item, register and mask
// against a brute-force count. What only a GPU does (products, copies, barriers, atomics) is not here.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "common/cuda/elements.h"
#include "common/cuda/hopper/layout.h"
#include "host_steps.h"
#include "ranking/contract.h"
#include "ranking/cuda/candidate_tiles.h"
#include "ranking/cuda/thresholds.h"
#include "ranking/cuda/tile_counts.h"

namespace {

using namespace hybatch;                 // NOLINT: a test
using namespace hybatch::ranking::cuda;  // NOLINT: a test
namespace sm90 = hybatch::sm90;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

struct Problem {
  int num_queries, num_candidates, num_groups;
  std::vector<float> scores;  // [Q, D]
  std::vector<int32_t> groups;
  std::vector<int64_t> offsets, positive_index;
  std::vector<float> thresholds;
  int64_t first_index;

  int num_positives() const { return static_cast<int>(positive_index.size()); }
  float score(int q, int row) const { return scores[static_cast<size_t>(q) * num_candidates + row]; }
};

struct Counts {
  std::vector<int32_t> greater, before, after;
  int64_t self_hits = 0;
  explicit Counts(const Problem& p)
      : greater(p.num_positives() * p.num_groups), before(greater.size()), after(greater.size()) {}
  bool operator==(const Counts&) const = default;
};

Problem RandomProblem(std::mt19937& random, int queries, int candidates, int groups, int most_positives, int levels) {
  const auto below = [&random](int end) {
    return static_cast<int>(random() % static_cast<unsigned>(std::max(end, 1)));
  };
  Problem p = {queries, candidates, groups, {}, {}, {0}, {}, {}, 1000};
  for (int i = 0; i < queries * candidates; ++i) p.scores.push_back(static_cast<float>(below(levels)) - levels / 2);
  for (int i = 0; i < candidates; ++i) p.groups.push_back(below(groups + 2) - 1);  // both ends are outside
  if (random() % 2 == 0) std::sort(p.groups.begin(), p.groups.end());
  for (int q = 0; q < queries; ++q) {
    const int owned = below(most_positives + 1);
    for (int i = 0; i < owned; ++i) {
      const int row = below(candidates);
      const bool elsewhere = random() % 8 == 0;  // in another block
      p.positive_index.push_back(elsewhere ? 3 : p.first_index + row);
      p.thresholds.push_back(p.score(q, row));
    }
    p.offsets.push_back(p.num_positives());
  }
  return p;
}

Counts BruteForce(const Problem& p) {
  Counts counts(p);
  for (int q = 0; q < p.num_queries; ++q) {
    for (int64_t positive = p.offsets[q]; positive < p.offsets[q + 1]; ++positive) {
      for (int row = 0; row < p.num_candidates; ++row) {
        const float score = p.score(q, row), threshold = p.thresholds[positive];
        const int64_t index = p.first_index + row, own = p.positive_index[positive];
        const int64_t cell = positive * p.num_groups + p.groups[row];
        const bool counted = p.groups[row] >= 0 && p.groups[row] < p.num_groups;
        if (index == own) {
          counts.self_hits += score == threshold;
        } else if (counted && score > threshold) {
          ++counts.greater[cell];
        } else if (counted && score == threshold) {
          ++(index < own ? counts.before : counts.after)[cell];
        }
      }
    }
  }
  return counts;
}

// What lies on the device; PlaceBins and FillBins as one thread would run them.
struct Device {
  const Problem& p;
  HostThresholds sorted;
  std::vector<int32_t> order, bin_first, bin_tile;
  Counts counts;

  explicit Device(const Problem& problem)
      : p(problem), sorted(SortOnHost(p.thresholds.data(), p.offsets.data(), p.num_queries, p.num_groups)), counts(p) {
    for (int64_t own = 0; own < p.num_positives(); ++own) {
      const int64_t query = OwnerOf(p.offsets.data(), p.num_queries, own);
      Require(p.offsets[query] <= own && own < p.offsets[query + 1], "a positive's owner");
      const auto places = sorted.positive.begin();
      const auto count = std::count(places + p.offsets[query], places + p.offsets[query + 1], own);
      Require(count == 1, "a place for each positive");
    }
  }

  CountTables Tables() {
    return {p.offsets.data(), p.positive_index.data(), p.groups.data(),     p.num_queries,
            p.num_groups,     p.first_index,           counts.before.data(), counts.after.data(),
            sorted.Pointers()};
  }

  CandidateTiles ByGroup(int tile_size) {
    const int bins = p.num_groups + 1;
    order.resize(p.num_candidates);
    std::iota(order.begin(), order.end(), 0);
    const auto bin = [this](int32_t row) { return BinOf(p.groups[row], p.num_groups); };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return bin(a) < bin(b); });
    bin_first.assign(bins + 1, 0);
    bin_tile.assign(bins + 1, 0);
    for (int b = 0; b < bins; ++b) {
      const auto size = static_cast<int32_t>(
          std::count_if(order.begin(), order.end(), [&](int32_t row) { return bin(row) == b; }));
      bin_first[b + 1] = bin_first[b] + size;
      bin_tile[b + 1] = bin_tile[b] + (size + tile_size - 1) / tile_size;
    }
    return {p.num_candidates, bins, tile_size, order.data(), bin_first.data(), bin_tile.data(), nullptr};
  }

  void AddBeaten() { AddBeatenOnHost(sorted, p.offsets.data(), p.num_queries, p.num_groups, counts.greater.data()); }
};

constexpr auto kNoBarrier = [] {};

// As GenericCountKernel takes its tiles: by group, or mixed where bins are few tiles' worth.
Counts CountGeneric(const Problem& p, bool by_group) {
  constexpr int kTile = 128;
  Device device(p);
  CandidateTiles tiles = {};
  tiles.num_candidates = p.num_candidates;
  tiles.tile_size = kTile;
  if (by_group) tiles = device.ByGroup(kTile);
  const CountTables tables = device.Tables();
  static TileCounts<kTile> counts;
  const int query_blocks = (p.num_queries + kTile - 1) / kTile;
  std::set<std::pair<int, int>> seen;
  std::vector<int> covered(p.num_candidates);
  for (int64_t index = 0; index < static_cast<int64_t>(query_blocks) * tiles.NumTiles(); ++index) {
    const WorkItem item = WorkItemAt(index, query_blocks, tiles.NumTiles());
    Require(seen.insert({item.query_block, item.tile}).second, "every work item once");
    const CandidateTile tile = tiles.Tile(item.tile);
    Require(tile.count > 0 && tile.count <= kTile, "a tile that holds candidates");
    counts.Load(tables, item.query_block * kTile, 0, 1, kNoBarrier);
    int32_t self_hits = 0;
    for (int column = 0; column < tile.count; ++column) {
      const int32_t row = tiles.Row(tile.first + column);
      if (by_group) Require(BinOf(p.groups[row], p.num_groups) - 1 == tile.group, "one group per tile");
      if (item.query_block == 0) ++covered[row];
      for (int i = 0; i < kTile && item.query_block * kTile + i < p.num_queries; ++i) {
        const float score = p.score(item.query_block * kTile + i, row);
        ScoreSink<kTile> sink{counts, tables, tiles, tile, column, counts.first[i], self_hits};
        if (score >= counts.lowest[i]) CountInTile(score, i, sink);
      }
    }
    counts.Flush(tables, tile.group, 0, 1);
    device.counts.self_hits += self_hits;
  }
  Require(std::count(covered.begin(), covered.end(), 1) == p.num_candidates, "every candidate in one tile");
  device.AddBeaten();
  return device.counts;
}

// As HopperCountKernel does: 128 x 256 tiles as the candidates stand, scores in the registers of two warpgroups.
Counts CountHopper(const Problem& p) {
  constexpr int kQueries = 128, kCandidates = sm90::kInstructionColumns;
  Device device(p);
  const CountTables tables = device.Tables();
  const CandidateTiles as_they_stand = {};
  static TileCounts<kQueries> counts;
  for (int first_query = 0; first_query < p.num_queries; first_query += kQueries) {
    for (int first = 0; first < p.num_candidates; first += kCandidates) {
      const int count = std::min(kCandidates, p.num_candidates - first);
      const int32_t group = BinOf(p.groups[first], p.num_groups) - 1;
      const bool same = std::all_of(&p.groups[first], &p.groups[first] + count,
                                    [&](int32_t g) { return BinOf(g, p.num_groups) - 1 == group; });
      const CandidateTile tile = {first, count, same ? group : kMixedGroups};
      counts.Load(tables, first_query, 0, 1, kNoBarrier);
      int32_t self_hits = 0;
      for (int consumer = 0; consumer < 256; ++consumer) {
        const int thread = consumer % 128, first_row = consumer / 128 * sm90::kInstructionRows;
        for (int accumulator = 0; accumulator < sm90::kAccumulators; ++accumulator) {
          const int query = first_row + sm90::AccumulatorRow(thread, accumulator);
          const int column = sm90::AccumulatorColumn(thread, accumulator);
          const int part = accumulator / sm90::kPart, bit = accumulator % sm90::kPart;
          const bool in_use = (sm90::ColumnsInUse(thread, part, count) >> bit & 1) != 0;
          Require(in_use == (column < count), "the mask of columns in use");
          const bool real = first_query + query < p.num_queries && column < count;
          const float score = real ? p.score(first_query + query, first + column) : 0.0f;  // padding scores 0
          ScoreSink<kQueries> sink{counts, tables, as_they_stand, tile, column, counts.first[query], self_hits};
          if (in_use && score >= counts.lowest[query]) CountInTile(score, query, sink);
        }
      }
      counts.Flush(tables, tile.group, 0, 1);
      device.counts.self_hits += self_hits;
    }
  }
  device.AddBeaten();
  return device.counts;
}

void TestCounts() {
  std::mt19937 random(7);
  const std::tuple<int, int, int, int, int> shapes[] = {
      {1, 1, 1, 1, 3},     {5, 300, 3, 4, 9},     {130, 257, 2, 3, 50}, {129, 513, 1, 60, 20},
      {40, 700, 5, 90, 40}, {3, 128, 0, 4, 3},    {300, 260, 40, 2, 5}, {64, 1000, 11, 11, 1000}};
  for (const auto& [queries, candidates, groups, positives, levels] : shapes) {
    const Problem p = RandomProblem(random, queries, candidates, groups, positives, levels);
    const Counts expected = BruteForce(p);
    Require(CountGeneric(p, true) == expected, "generic counts, tiles by group");
    Require(CountGeneric(p, false) == expected, "generic counts, mixed tiles");
    Require(CountHopper(p) == expected, "Hopper counts");
  }
}

void TestWorkItems() {
  for (const auto& [blocks, tiles] : {std::pair{1, 1}, {15, 7}, {16, 3}, {17, 5}, {33, 2}, {103, 51}}) {
    std::set<std::pair<int, int>> seen;
    for (int64_t i = 0; i < static_cast<int64_t>(blocks) * tiles; ++i) {
      const WorkItem item = WorkItemAt(i, blocks, tiles);
      Require(item.query_block < blocks && item.tile < tiles, "a work item in range");
      seen.insert({item.query_block, item.tile});
    }
    Require(seen.size() == static_cast<size_t>(blocks) * tiles, "every work item once");
  }
}

void TestLayout() {
  std::set<std::pair<int, int>> cells;
  for (int thread = 0; thread < 128; ++thread) {
    for (int i = 0; i < sm90::kAccumulators; ++i) {
      const int row = sm90::AccumulatorRow(thread, i), column = sm90::AccumulatorColumn(thread, i);
      Require(row == sm90::AccumulatorRow(thread, i % 4) && row < 64 && column < 256, "a cell in range");
      Require(column / sm90::kPartColumns == i / sm90::kPart, "a part's columns");
      cells.insert({row, column});
    }
  }
  Require(cells.size() == 64 * 256, "every cell in one register");
  std::set<int> offsets;
  for (int row = 0; row < 320; ++row) {
    for (int piece = 0; piece < 8; ++piece) offsets.insert(sm90::SwizzledOffset(row, piece));
  }
  Require(offsets.size() == 320 * 8 && *offsets.rbegin() == 320 * 128 - 16, "every piece in a place of its own");
  // The swizzle as the hardware states it: bits 4-6 of an address, exclusive-or bits 7-9.
  for (const int linear : {0, 16, 128, 1024 + 5 * 128 + 48, 7 * 128 + 112}) {
    Require(sm90::SwizzledOffset(linear / 128, linear % 128 / 16) == (linear ^ (linear >> 7 & 7) << 4), "the swizzle");
  }
  // An operand's bytes as the descriptor leads to them: 8 rows of 128 bytes per 1024, then the swizzle.
  constexpr int kBase = 0x12400;
  for (int row = 0; row < 256; ++row) {
    for (int byte = 0; byte < sm90::kSlabBytes; byte += 16) {
      const int step = byte / sm90::kStepBytes;
      const uint64_t first = sm90::Descriptor(kBase, sm90::Major::kTerms);
      const uint64_t descriptor = first + step * sm90::StepUnits(sm90::Major::kTerms);
      const int start = static_cast<int>(descriptor & 0x3fff) * 16;
      const int address = start + row / 8 * 1024 + row % 8 * 128 + byte % sm90::kStepBytes;
      const int swizzled = address ^ (address >> 7 & 7) << 4;
      Require(swizzled == kBase + sm90::SwizzledOffset(row, byte / 16), "where an instruction reads an operand");
    }
  }
  Require(sm90::Descriptor(0x12400, sm90::Major::kTerms) == (0x1240ull | 1ull << 16 | 64ull << 32 | 1ull << 62),
          "a descriptor");
}

// Operands whose lines are neighbours, 2 bytes each: where the copy of a box puts an element, an instruction reads it.
void TestLinesLayout() {
  constexpr uint32_t kBase = 0x12400;
  const uint64_t descriptor = sm90::Descriptor(kBase, sm90::Major::kLines);
  const auto box_distance = static_cast<uint32_t>(descriptor >> 16 & 0x3fff) * 16;
  const auto group_distance = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) * 16;
  Require(descriptor >> 62 == 1, "128-byte swizzle");
  for (uint32_t line = 0; line < 256; ++line) {
    for (uint32_t term = 0; term < sm90::kTermsOfSlab; ++term) {
      // The copy: box line / 64, whose rows are terms of 64 lines; 16-byte pieces swizzled within 8 rows.
      const uint32_t piece = line % 64 / 8;
      const uint32_t copied = kBase + line / 64 * sm90::kBoxBytes +
                              sm90::SwizzledOffset(static_cast<int>(term), static_cast<int>(piece)) + line % 8 * 2;
      // The instruction of 16 terms: 64 lines side by side, then boxes; 8 terms 128 bytes apart, then groups of them.
      const uint32_t step = term / 16, within = term % 16;
      const auto start = static_cast<uint32_t>(descriptor + step * sm90::StepUnits(sm90::Major::kLines) & 0x3fff) * 16;
      const uint32_t address = start + line % 64 * 2 + line / 64 * box_distance + within % 8 * 128 +
                               within / 8 * group_distance;
      Require((address ^ (address >> 7 & 7) << 4) == copied, "where an instruction reads an element");
    }
  }
}

void TestNotANumber() {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float sorted[] = {-1, 0, 0, 2, nan, nan};
  Require(SortsBefore(2, 9, nan, 0) && !SortsBefore(nan, 0, 2, 9), "NaN sorts last");
  Require(SortsBefore(nan, 0, nan, 1) && !SortsBefore(nan, 1, nan, 0), "NaN sorts by number");
  Require(SortsBefore(-0.0f, 1, 0.0f, 2) && !SortsBefore(0.0f, 2, -0.0f, 1), "zeros are equal");
  struct {
    int beats = -1, ties = 0;
    void Beats(int k) { beats = k; }
    void Ties(int) { ++ties; }
  } sink;
  CountScore(0.0f, sorted, 6, sink);
  Require(sink.beats == 0 && sink.ties == 2, "a tied score among NaN thresholds");
  CountScore(9.0f, sorted, 6, sink);
  Require(sink.beats == 3 && sink.ties == 2, "a score above all numbers");
}

void TestElements() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    double expected = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (half >> 15 != 0) expected = -expected;
    const float value = Element<ElementKind::kFloat16>::Value(half);
    if (exponent == 31) {
      Require(fraction == 0 ? std::isinf(value) : std::isnan(value), "a half that is not finite");
    } else {
      Require(static_cast<double>(value) == expected && std::signbit(value) == (half >> 15 != 0), "a half");
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1000000; ++i) {
    const uint32_t bits = random();
    const float value = FloatFromBits(bits), rounded = FloatFromBits(RoundToTf32(bits));
    if (!IsFiniteBits(bits)) {
      Require(RoundToTf32(bits) == bits, "what is not finite stays");
      continue;
    }
    const uint32_t down = bits & ~0x1fffu, up = down + 0x2000u;
    const double to_down = std::abs(static_cast<double>(value) - FloatFromBits(down));
    const double limit = 0x1p128;
    const double up_value = IsFiniteBits(up) ? std::abs(static_cast<double>(FloatFromBits(up))) : limit;
    const double to_up = std::abs(std::abs(static_cast<double>(value)) - up_value);
    const bool goes_up = to_up < to_down || (to_up == to_down && (down >> 13 & 1) != 0);
    Require(RoundToTf32(bits) == (goes_up ? up : down), "tf32 to nearest, ties to even");
    Require(std::signbit(rounded) == std::signbit(value), "tf32 keeps the sign");
  }
}

}  // namespace

int main() {
  TestElements();
  TestNotANumber();
  TestLayout();
  TestLinesLayout();
  TestWorkItems();
  TestCounts();
  std::puts("ok");
  return 0;
}
