// The loss's CUDA kernels on the host: every thread block, tile, warpgroup, lane and register of both paths, by the
// device's own headers, around products that the caller brings. What only a GPU does (the products themselves, copies,
// barriers) is not here. Called from Python, which knows what must come out.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "common/cuda/elements.h"
#include "contrastive/cuda/generic_schedule.h"
#include "contrastive/cuda/hopper_arithmetic.h"
#include "contrastive/cuda/hopper_schedule.h"
#include "contrastive/cuda/logits.cuh"

namespace hybatch::contrastive::cuda {
namespace {

constexpr int kGroups = 2;  // warpgroups that multiply
constexpr int kGroupRows = sm90::kInstructionRows;
constexpr int kGroupThreads = 128;

void Require(bool condition) {
  if (!condition) std::abort();
}

struct Problem {
  int64_t num_queries;
  int64_t num_candidates;
  int64_t width;
  const float* products;  // [Q, D]
  const float* queries;   // [Q, H], values of the 16-bit kind
  const float* candidates;
  const int64_t* positive_index;
  const int64_t* query_groups;
  const int64_t* candidate_groups;
  float scale;
  int32_t kind;  // of ElementKind
};

struct Upstream {
  const float* row_lse;
  const float* grad_row_lse;
  const float* grad_positive;
  const float* column_lse;  // null: no column term
  const float* grad_column_lse;
};

// ---- Hopper: logits ----

struct Row {
  int64_t query, positive, group;
  uint32_t key;
  bool exists;
};

// A warpgroup with 64 rows of a tile in its registers.
struct Group {
  const Problem& p;
  int64_t first_query, num_queries;  // of the launch
  int64_t first_row, first_column;   // first_row counts from first_query
  std::vector<std::array<float, sm90::kAccumulators>> logits =
      std::vector<std::array<float, sm90::kAccumulators>>(kGroupThreads);

  Row RowAt(int64_t row) const {
    if (row >= num_queries) return {first_query, -1, -1, QueryKey(-1), false};
    const int64_t q = first_query + row;
    return {q, p.positive_index[q], p.query_groups[q], QueryKey(p.query_groups[q]), true};
  }
  std::array<Row, 2> RowsOf(int thread) const {
    return {RowAt(first_row + sm90::AccumulatorRow(thread, 0)), RowAt(first_row + sm90::AccumulatorRow(thread, 2))};
  }

  // As the tensor cores leave them: zeros come of what is past the ends.
  void Multiply() {
    for (int thread = 0; thread < kGroupThreads; ++thread) {
      for (int i = 0; i < sm90::kAccumulators; ++i) {
        const int64_t row = first_row + sm90::AccumulatorRow(thread, i);
        const int64_t d = first_column + sm90::AccumulatorColumn(thread, i);
        const bool inside = row < num_queries && d < p.num_candidates;
        logits[thread][i] = inside ? p.products[(first_query + row) * p.num_candidates + d] : 0.0f;
      }
    }
  }

  // As BringKeys, FormLogits, LeaveOut and WritePositives. Returns how many warps had to look at the groups themselves.
  int FormLogits(float* positive_logit) {
    std::vector<uint32_t> keys(sm90::kInstructionColumns);
    bool irregular = false;
    for (int column = 0; column < sm90::kInstructionColumns; ++column) {
      const int64_t d = first_column + column;
      const int64_t group = d < p.num_candidates ? p.candidate_groups[d] : kEmptySlot;
      irregular |= group == kEmptySlot;
      keys[column] = CandidateKey(group);
    }
    int num_slow = 0;
    for (int warp = 0; warp < kGroupThreads / 32; ++warp) {
      bool suspect = irregular;
      for (int thread = warp * 32; thread < (warp + 1) * 32; ++thread) {
        const auto rows = RowsOf(thread);
        for (const Row& row : rows) {
          suspect |= !row.exists;
          suspect |= row.positive >= first_column && row.positive < first_column + sm90::kInstructionColumns;
        }
        for (int i = 0; i < sm90::kAccumulators; ++i) {
          suspect |= keys[sm90::AccumulatorColumn(thread, i)] == rows[i / 2 % 2].key;
          logits[thread][i] *= p.scale;
        }
      }
      num_slow += suspect;
      for (int thread = warp * 32; suspect && thread < (warp + 1) * 32; ++thread) LeaveOut(thread, positive_logit);
    }
    return num_slow;
  }

  void LeaveOut(int thread, float* positive_logit) {
    const auto rows = RowsOf(thread);
    const int64_t num_columns = std::min<int64_t>(sm90::kInstructionColumns, p.num_candidates - first_column);
    for (int i = 0; i < sm90::kAccumulators; ++i) {
      const Row& row = rows[i / 2 % 2];
      const int column = sm90::AccumulatorColumn(thread, i);
      const int64_t positive = row.positive < 0 ? -1 : row.positive - first_column;
      const int64_t group = p.candidate_groups[first_column + std::min<int64_t>(column, num_columns - 1)];
      const bool inside = row.exists && column < num_columns;
      if (!inside || !TakesPart(column, group, positive, row.group)) logits[thread][i] = -INFINITY;
      if (column == positive && positive_logit != nullptr) positive_logit[row.query] = logits[thread][i];
    }
  }
};

// ---- Hopper: forward ----

using LaneValues = std::array<std::array<float, 8>, 32>;

// As ReduceColumns, all lanes of a warp in step.
template <class Combine>
std::array<float, 32> ReduceColumns(LaneValues values, Combine combine) {
  for (int half = 4; half > 0; half /= 2) {
    const LaneValues before = values;
    for (int lane = 0; lane < 32; ++lane) {
      const int partner = lane ^ (4 * half);
      for (int i = 0; i < half; ++i) {
        const float sent = KeepsUpperHalf(partner, half) ? before[partner][i] : before[partner][half + i];
        values[lane][i] = combine(KeepsUpperHalf(lane, half) ? before[lane][half + i] : before[lane][i], sent);
      }
    }
  }
  std::array<float, 32> reduced;
  for (int lane = 0; lane < 32; ++lane) reduced[lane] = values[lane][0];
  return reduced;
}

struct WarpSums {
  std::array<std::array<ExponentialSum, 2>, 32> rows;
  std::vector<ExponentialSum> columns = std::vector<ExponentialSum>(sm90::kInstructionColumns);
};

float Add(float a, float b) { return a + b; }
float Larger(float a, float b) { return std::fmax(a, b); }

// As ExactColumnSum.
std::array<ExponentialSum, 32> ExactColumnSum(const Group& group, int warp, int part) {
  LaneValues values;
  for (int lane = 0; lane < 32; ++lane) {
    const auto& logits = group.logits[warp * 32 + lane];
    for (int k = 0; k < 8; ++k) {
      values[lane][k] = Larger(logits[PartAccumulator(part, k, 0)], logits[PartAccumulator(part, k, 1)]);
    }
  }
  const auto maximum = ReduceColumns(values, Larger);
  for (int lane = 0; lane < 32; ++lane) {
    const auto& logits = group.logits[warp * 32 + lane];
    for (int k = 0; k < 8; ++k) {
      const float base = Base(maximum[4 * k + lane % 4]);
      values[lane][k] = Exponential(logits[PartAccumulator(part, k, 0)] - base) +
                        Exponential(logits[PartAccumulator(part, k, 1)] - base);
    }
  }
  const auto sum = ReduceColumns(values, Add);
  std::array<ExponentialSum, 32> sums;
  for (int lane = 0; lane < 32; ++lane) sums[lane] = {maximum[lane], sum[lane]};
  return sums;
}

// As AddTile.
void AddTile(const Group& group, int warp, bool columns, WarpSums& sums) {
  std::array<std::array<float, 2>, 32> maximum, sum = {};
  float warp_maximum = -INFINITY;
  for (int lane = 0; lane < 32; ++lane) {
    maximum[lane] = {-INFINITY, -INFINITY};
    for (int i = 0; i < sm90::kAccumulators; ++i) {
      float& value = maximum[lane][i / 2 % 2];
      value = Larger(value, group.logits[warp * 32 + lane][i]);
    }
    warp_maximum = Larger(warp_maximum, Larger(maximum[lane][0], maximum[lane][1]));
  }
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
    LaneValues of_columns;
    for (int lane = 0; lane < 32; ++lane) {
      for (int k = 0; k < 8; ++k) {
        of_columns[lane][k] = 0;
        for (int row = 0; row < 2; ++row) {
          const float logit = group.logits[warp * 32 + lane][PartAccumulator(part, k, row)];
          const float term = Exponential(logit - Base(maximum[lane][row]));
          sum[lane][row] += term;
          of_columns[lane][k] += term * Exponential(maximum[lane][row] - Base(warp_maximum));
        }
      }
    }
    if (!columns) continue;
    const auto reduced = ReduceColumns(of_columns, Add);
    const bool lost = std::any_of(reduced.begin(), reduced.end(), [](float s) { return s < kLeastColumnSum; });
    const auto exact = ExactColumnSum(group, warp, part);
    for (int lane = 0; lane < 32; ++lane) {
      sums.columns[PartColumn(lane, part, lane / 4)] =
          lost ? exact[lane] : ExponentialSum{warp_maximum, reduced[lane]};
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int row = 0; row < 2; ++row) {
      sums.rows[lane][row] = Join(sums.rows[lane][row], {maximum[lane][row], sum[lane][row]});
    }
  }
}

struct Partials {
  std::vector<ExponentialSum> rows, columns;
  std::vector<int> times_written;  // a row of a share: once
};

// As WriteRowSum: neighbours first, then pairs of them.
void WriteRowSums(const Group& group, int warp, const WarpSums& sums, ExponentialSum* to, int* times_written) {
  for (int lane = 0; lane < 32; lane += 4) {
    const auto rows = group.RowsOf(warp * 32 + lane);
    for (int row = 0; row < 2; ++row) {
      if (!rows[row].exists) continue;
      const auto& r = sums.rows;
      const ExponentialSum first = Join(r[lane][row], r[lane + 1][row]);
      to[rows[row].query] = Join(first, Join(r[lane + 2][row], r[lane + 3][row]));
      ++times_written[rows[row].query];
    }
  }
}

// As SumTiles, of one warpgroup of a block.
void SumTiles(const Problem& p, const TileShares& shares, int32_t block, int group_index, bool columns,
              float* positive_logit, Partials& partials) {
  const Range row_tiles = shares.RowTiles(block), column_tiles = shares.ColumnTiles(block);
  for (int32_t row_tile = row_tiles.first; row_tile < row_tiles.end; ++row_tile) {
    Group group = {p, 0, p.num_queries, row_tile * kRowsOfTile + group_index * kGroupRows, 0};
    std::vector<WarpSums> warps(4);
    for (WarpSums& warp : warps) warp.rows.fill({Nothing(), Nothing()});
    for (int32_t column_tile = column_tiles.first; column_tile < column_tiles.end; ++column_tile) {
      group.first_column = column_tile * kColumnsOfTile;
      group.Multiply();
      group.FormLogits(positive_logit);
      for (int warp = 0; warp < 4; ++warp) AddTile(group, warp, columns, warps[warp]);
      for (int column = 0; columns && column < kColumnsOfTile; ++column) {
        const int64_t d = group.first_column + column;
        if (d >= p.num_candidates) break;
        ExponentialSum& to = partials.columns[(shares.RowShare(block) * 2 + group_index) * p.num_candidates + d];
        ExponentialSum sum = row_tile == row_tiles.first ? Nothing() : to;
        for (const WarpSums& warp : warps) sum = Join(sum, warp.columns[column]);
        to = sum;
      }
    }
    const int64_t share = shares.ColumnShare(block) * p.num_queries;
    for (int warp = 0; warp < 4; ++warp) {
      WriteRowSums(group, warp, warps[warp], partials.rows.data() + share, partials.times_written.data() + share);
    }
  }
}

void JoinSums(const ExponentialSum* partial, int64_t num_shares, int64_t num_lines, float* lse) {
  for (int64_t line = 0; line < num_lines; ++line) {
    ExponentialSum sum = Nothing();
    for (int64_t share = 0; share < num_shares; ++share) sum = Join(sum, partial[share * num_lines + line]);
    lse[line] = LogSumExp(sum);
  }
}

// ---- Hopper: backward ----

constexpr uint16_t kGarbage = 0x7fff;  // not a number in both kinds

struct Slab {
  int64_t first_query, num_queries, stride;
  std::vector<uint16_t> weights;
  std::vector<int> times_written;
};

template <ElementKind kKind>
void WriteTile(const Problem& p, const Upstream& up, const Group& group, int warp, float factor, Slab& slab) {
  const int64_t warp_row = group.first_row + warp * 16;
  const int64_t num_columns = std::min<int64_t>(kColumnsOfTile, slab.stride - group.first_column);
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
    std::vector<unsigned char> bytes(16 * kPartRowBytes);
    for (int lane = 0; lane < 32; ++lane) {
      const int thread = warp * 32 + lane;
      const auto rows = group.RowsOf(thread);
      for (int i = part * sm90::kPart; i < (part + 1) * sm90::kPart; ++i) {
        const int row = i / 2 % 2, column = sm90::AccumulatorColumn(thread, i);
        const int64_t q = rows[row].query, d = group.first_column + column;
        const float logit = group.logits[thread][i];
        float weight = WeightFrom(MakeShare(up.row_lse[q], up.grad_row_lse[q] * factor), logit);
        if (up.column_lse != nullptr && d < p.num_candidates) {
          weight += WeightFrom(MakeShare(up.column_lse[d], up.grad_column_lse[d] * factor), logit);
        }
        if (rows[row].positive >= 0 && d == rows[row].positive) weight += up.grad_positive[q] * factor;
        const uint16_t rounded = Element<kKind>::Rounded(BitsOfFloat(weight));
        std::memcpy(&bytes.at(PartByte(row * 8 + lane / 4, column % sm90::kPartColumns)), &rounded, 2);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {  // as CopyPart
      const int column = part * sm90::kPartColumns + lane % 4 * 8;
      for (int row = lane / 4; row < 16; row += 8) {
        if (row >= slab.num_queries - warp_row || column >= num_columns) continue;
        const int64_t to = (warp_row + row) * slab.stride + group.first_column + column;
        std::memcpy(&slab.weights.at(to + 7) - 7, &bytes.at(PartByte(row, lane % 4 * 8)), 16);
        for (int k = 0; k < 8; ++k) ++slab.times_written.at(to + k);
      }
    }
  }
}

template <ElementKind kKind>
void WriteWeights(const Problem& p, const Upstream& up, float factor, int multiprocessors, Slab& slab) {
  const TileShares shares = DealTiles(slab.num_queries, p.num_candidates, multiprocessors);
  for (int32_t block = 0; block < shares.NumBlocks(); ++block) {
    const Range row_tiles = shares.RowTiles(block), column_tiles = shares.ColumnTiles(block);
    for (int32_t row_tile = row_tiles.first; row_tile < row_tiles.end; ++row_tile) {
      for (int32_t column_tile = column_tiles.first; column_tile < column_tiles.end; ++column_tile) {
        for (int g = 0; g < kGroups; ++g) {
          Group group = {p, slab.first_query, slab.num_queries, row_tile * kRowsOfTile + g * kGroupRows,
                         column_tile * kColumnsOfTile};
          group.Multiply();
          group.FormLogits(nullptr);
          for (int warp = 0; warp < 4; ++warp) WriteTile<kKind>(p, up, group, warp, factor, slab);
        }
      }
    }
  }
  for (int64_t row = 0; row < slab.num_queries; ++row) {
    for (int64_t d = 0; d < p.num_candidates; ++d) Require(slab.times_written[row * slab.stride + d] == 1);
  }
}

// As the copy engine reads the weights: zeros outside, whatever memory holds there.
template <ElementKind kKind>
float WeightAt(const Slab& slab, int64_t num_candidates, int64_t row, int64_t d) {
  if (row >= slab.num_queries || d >= num_candidates) return 0;
  return Element<kKind>::Value(slab.weights[row * slab.stride + d]);
}

// As FormItems: results [splits, rows, columns], of which each is written once. left(row, term), right(term, column).
template <class Left, class Right>
std::vector<float> FormItems(const ProductItems& items, int64_t rows, int64_t columns, Left left, Right right) {
  std::vector<float> to(items.num_splits * rows * columns);
  std::vector<int> times_written(to.size());
  for (int64_t item = 0; item < items.NumItems(); ++item) {
    const Range slabs = items.Slabs(item);
    for (int index = 0; index < kGroups * kGroupThreads; ++index) {
      const int thread = index % kGroupThreads;
      for (int i = 0; i < sm90::kAccumulators; ++i) {
        const int64_t row = items.RowTile(item) * kRowsOfTile + index / kGroupThreads * kGroupRows +
                            sm90::AccumulatorRow(thread, i);
        const int64_t column = items.ColumnTile(item) * kColumnsOfTile + sm90::AccumulatorColumn(thread, i);
        if (row >= rows || column >= columns) continue;
        float sum = 0;
        for (int64_t term = slabs.first * kTermsOfSlab; term < slabs.end * kTermsOfSlab; ++term) {
          sum += left(row, term) * right(term, column);
        }
        const int64_t place = (items.Split(item) * rows + row) * columns + column;
        to[place] = sum;
        ++times_written[place];
      }
    }
  }
  for (const int times : times_written) Require(times == 1);
  return to;
}

template <ElementKind kKind>
void AddSlab(const Problem& p, const Slab& slab, int32_t most_splits, int multiprocessors, float multiplier,
             float* grad_queries, float* grad_candidates) {
  const int64_t width = p.width, count = slab.num_queries * width;
  const auto element = [width](const float* rows, int64_t num_rows, int64_t row, int64_t h) {
    return row < num_rows ? rows[row * width + h] : 0.0f;
  };
  const ProductItems of_queries =
      SplitProduct(slab.num_queries, width, p.num_candidates, most_splits, multiprocessors);
  const std::vector<float> partial = FormItems(
      of_queries, slab.num_queries, width,
      [&](int64_t row, int64_t d) { return WeightAt<kKind>(slab, p.num_candidates, row, d); },
      [&](int64_t d, int64_t h) { return element(p.candidates, p.num_candidates, d, h); });
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int32_t split = 0; split < of_queries.num_splits; ++split) sum += partial[split * count + i] * multiplier;
    grad_queries[slab.first_query * width + i] = sum;
  }
  const ProductItems of_candidates = SplitProduct(p.num_candidates, width, slab.num_queries, 1, multiprocessors);
  const std::vector<float> added = FormItems(
      of_candidates, p.num_candidates, width,
      [&](int64_t d, int64_t row) { return WeightAt<kKind>(slab, p.num_candidates, row, d); },
      [&](int64_t row, int64_t h) {
        return row < slab.num_queries ? element(p.queries, p.num_queries, slab.first_query + row, h) : 0.0f;
      });
  for (int64_t i = 0; i < p.num_candidates * width; ++i) {
    grad_candidates[i] = (slab.first_query > 0 ? grad_candidates[i] : 0.0f) + added[i] * multiplier;
  }
}

float LargestOf(const float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; values != nullptr && i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

template <ElementKind kKind>
void Backward(const Problem& p, const Upstream& up, int multiprocessors, int64_t slab_rows, int32_t most_splits,
              float* grad_queries, float* grad_candidates) {
  const float factor = WeightFactor(std::max({LargestOf(up.grad_row_lse, p.num_queries),
                                              LargestOf(up.grad_positive, p.num_queries),
                                              LargestOf(up.grad_column_lse, p.num_candidates)}));
  for (int64_t first = 0; first < p.num_queries; first += slab_rows) {
    const int64_t stride = WeightStride(p.num_candidates);
    Slab slab = {first, std::min(slab_rows, p.num_queries - first), stride,
                 std::vector<uint16_t>(slab_rows * stride, kGarbage), std::vector<int>(slab_rows * stride)};
    WriteWeights<kKind>(p, up, factor, multiprocessors, slab);
    AddSlab<kKind>(p, slab, most_splits, multiprocessors, p.scale / factor, grad_queries, grad_candidates);
  }
}

// ---- every architecture ----

// As PartialSums: one row of a thread, after it has gone along its share of the other side's tiles.
ExponentialSum GenericRowSum(const Problem& p, bool columns, int64_t line, int64_t share, int thread,
                             float* positive_logit) {
  const int64_t num_lines = columns ? p.num_candidates : p.num_queries;
  const int64_t num_others = columns ? p.num_queries : p.num_candidates;
  ExponentialSum sum = Nothing();
  const int64_t tiles = Tiles(num_others);
  for (int64_t tile = FirstTileOfShare(tiles, share); tile < FirstTileOfShare(tiles, share + 1); ++tile) {
    std::array<float, kPerThread> logits;
    float maximum = -INFINITY;
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t other = tile * kTile + PlaceInTile(thread, j);
      const int64_t q = columns ? other : line, d = columns ? line : other;
      logits[j] = -INFINITY;
      if (line >= num_lines || other >= num_others) continue;
      if (!TakesPart(d, p.candidate_groups[d], p.positive_index[q], p.query_groups[q])) continue;
      logits[j] = p.products[q * p.num_candidates + d] * p.scale;
      if (!columns && d == p.positive_index[q]) positive_logit[q] = logits[j];
      maximum = logits[j] > maximum ? logits[j] : maximum;
    }
    ExponentialSum of_tile = {maximum, 0.0f};
    for (const float logit : logits) of_tile.sum += std::exp(logit - Base(maximum));
    sum = Join(sum, of_tile);
  }
  return sum;
}

void GenericSums(const Problem& p, bool columns, float* positive_logit, float* lse) {
  const int64_t num_lines = columns ? p.num_candidates : p.num_queries;
  std::vector<ExponentialSum> partial(kShares * num_lines);
  std::vector<int> times_written(partial.size());
  for (int64_t block = 0; block < Tiles(num_lines); ++block) {
    for (int64_t share = 0; share < kShares; ++share) {
      for (int row = 0; row < kThreads / 16; ++row) {
        for (int i = 0; i < kPerThread; ++i) {
          const int64_t line = block * kTile + PlaceInTile(row, i);
          std::array<ExponentialSum, 16> lanes;
          for (int lane = 0; lane < 16; ++lane) {
            lanes[lane] = GenericRowSum(p, columns, line, share, lane, positive_logit);
          }
          for (int distance = 8; distance > 0; distance /= 2) {
            for (int lane = 0; lane < distance; ++lane) lanes[lane] = Join(lanes[lane], lanes[lane + distance]);
          }
          if (line >= num_lines) continue;
          partial[share * num_lines + line] = lanes[0];
          ++times_written[share * num_lines + line];
        }
      }
    }
  }
  for (const int times : times_written) Require(times == 1);
  JoinSums(partial.data(), kShares, num_lines, lse);
}

}  // namespace
}  // namespace hybatch::contrastive::cuda

using namespace hybatch;                     // NOLINT: a test
using namespace hybatch::contrastive::cuda;  // NOLINT: a test

extern "C" {

void HopperForward(const Problem* p, int32_t multiprocessors, float* row_lse, float* positive_logit,
                   float* column_lse) {
  const TileShares shares = DealTiles(p->num_queries, p->num_candidates, multiprocessors);
  const bool columns = column_lse != nullptr;
  Partials partials;
  partials.rows.resize(shares.column_shares * p->num_queries);
  partials.times_written.resize(partials.rows.size());
  partials.columns.resize(columns ? 2 * shares.row_shares * p->num_candidates : 0);
  for (int32_t block = 0; block < shares.NumBlocks(); ++block) {
    for (int group = 0; group < kGroups; ++group) {
      SumTiles(*p, shares, block, group, columns, positive_logit, partials);
    }
  }
  for (const int times : partials.times_written) Require(times == 1);
  JoinSums(partials.rows.data(), shares.column_shares, p->num_queries, row_lse);
  if (columns) JoinSums(partials.columns.data(), 2 * shares.row_shares, p->num_candidates, column_lse);
}

void HopperBackward(const Problem* p, const Upstream* up, int32_t multiprocessors, int64_t slab_rows,
                    int32_t most_splits, float* grad_queries, float* grad_candidates) {
  if (static_cast<ElementKind>(p->kind) == ElementKind::kBFloat16) {
    Backward<ElementKind::kBFloat16>(*p, *up, multiprocessors, slab_rows, most_splits, grad_queries, grad_candidates);
  } else {
    Backward<ElementKind::kFloat16>(*p, *up, multiprocessors, slab_rows, most_splits, grad_queries, grad_candidates);
  }
}

void GenericForward(const Problem* p, float* row_lse, float* positive_logit, float* column_lse) {
  GenericSums(*p, false, positive_logit, row_lse);
  if (column_lse != nullptr) GenericSums(*p, true, nullptr, column_lse);
}

// Warps, of those of all tiles, that look at the groups themselves.
int32_t SlowWarps(const Problem* p) {
  int32_t count = 0;
  for (int64_t row = 0; row < p->num_queries; row += kGroupRows) {
    for (int64_t column = 0; column < p->num_candidates; column += kColumnsOfTile) {
      Group group = {*p, 0, p->num_queries, row, column};
      count += group.FormLogits(nullptr);
    }
  }
  return count;
}

void JoinPair(const ExponentialSum* a, const ExponentialSum* b, ExponentialSum* joined) { *joined = Join(*a, *b); }
float LogSumExpOf(const ExponentialSum* sum) { return LogSumExp(*sum); }
float WeightFactorOf(float largest) { return WeightFactor(largest); }
int64_t GenericSlabRows(int64_t queries, int64_t candidates) { return SlabRows(queries, candidates); }
int64_t HopperSlabRowsOf(int64_t queries, int64_t candidates) { return HopperSlabRows(queries, candidates); }
int64_t WeightStrideOf(int64_t candidates) { return WeightStride(candidates); }
void DealTilesOf(int64_t rows, int64_t columns, int32_t multiprocessors, TileShares* shares) {
  *shares = DealTiles(rows, columns, multiprocessors);
}
void SplitProductOf(int64_t rows, int64_t columns, int64_t terms, int32_t multiprocessors, ProductItems* items) {
  *items = SplitProduct(rows, columns, terms, kMostSplits, multiprocessors);
}
}
