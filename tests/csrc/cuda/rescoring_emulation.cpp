// Rescoring on the host: the device's own headers between a model of the tensor cores and the fp32 chain. Called from
// Python, which brings the embeddings and knows what must be counted.

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "host_steps.h"
#include "ranking/cuda/rescoring.h"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kQueries = 128;
constexpr int kCandidates = 256;

// Tensor cores that add `group` products and the accumulator at a time, each cut off below 2^-bits of the largest of
// them, towards zero or downwards; `interleaved`: products that stand far apart make up a group.
struct TensorCores {
  int32_t kind;  // of ElementKind
  int32_t group;
  int32_t bits;
  int32_t downwards;
  int32_t interleaved;
};

struct Rows {
  const float* values;
  int32_t count;
  int32_t width;
  const float* Row(int32_t row) const { return values + static_cast<size_t>(row) * width; }
};

float Rounded(float value, ElementKind kind) {
  return WithKind(kind, [&]<ElementKind kKind>() {
    return Element<kKind>::Value(Element<kKind>::Rounded(BitsOfFloat(value)));
  });
}

float CutToFloat(double value) {
  const auto nearest = static_cast<float>(value);
  return std::abs(nearest) > std::abs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

float AddGroup(const std::vector<double>& terms, const TensorCores& model) {
  double largest = 0, sum = 0;
  for (const double term : terms) {
    if (!std::isfinite(term)) return static_cast<float>(std::accumulate(terms.begin(), terms.end(), 0.0));
    largest = std::max(largest, std::abs(term));
  }
  if (largest == 0) return 0;
  const double last_place = std::ldexp(1.0, std::ilogb(largest) - model.bits);
  for (const double term : terms) {
    const double places = term / last_place;
    sum += model.downwards != 0 ? std::floor(places) : std::trunc(places);
  }
  return CutToFloat(sum * last_place);
}

float TensorCoreScore(const float* query, const float* candidate, int32_t width, const TensorCores& model) {
  const auto kind = static_cast<ElementKind>(model.kind);
  const int32_t num_groups = (width + model.group - 1) / model.group;
  float accumulator = 0;
  for (int32_t g = 0; g < num_groups; ++g) {
    std::vector<double> terms = {accumulator};
    for (int32_t i = 0; i < model.group; ++i) {
      const int32_t h = model.interleaved != 0 ? i * num_groups + g : g * model.group + i;
      if (h >= width) continue;
      terms.push_back(static_cast<double>(Rounded(query[h], kind)) * Rounded(candidate[h], kind));
    }
    accumulator = AddGroup(terms, model);
  }
  return accumulator;
}

float ChainScore(const float* query, const float* candidate, int32_t width) {
  float score = 0;
  for (int32_t h = 0; h < width; ++h) score = std::fma(query[h], candidate[h], score);
  return score;
}

// As MeasureRows.
std::vector<RowSize> Measure(const Rows& rows, ElementKind kind, int32_t tile_size) {
  std::vector<RowSize> sizes((rows.count + tile_size - 1) / tile_size);
  for (int32_t row = 0; row < rows.count; ++row) {
    double given = 0, rounded = 0, difference = 0;
    for (int32_t h = 0; h < rows.width; ++h) {
      const double value = rows.Row(row)[h], nearest = Rounded(rows.Row(row)[h], kind);
      given += value * value;
      rounded += nearest * nearest;
      difference += (nearest - value) * (nearest - value);
    }
    const RowSize size = RowSizeOf(given, rounded, difference);
    RowSize& largest = sizes[row / tile_size];
    largest = {std::max(largest.norm, size.norm), std::max(largest.residual, size.residual)};
  }
  return sizes;
}

// The one group of a tile, as FindTileGroups finds it.
CandidateTile TileAt(const CountTables& tables, int32_t num_candidates, int32_t first) {
  const int32_t count = std::min(kCandidates, num_candidates - first);
  const int32_t group = GroupOf(tables, first);
  for (int32_t column = 0; column < count; ++column) {
    if (GroupOf(tables, first + column) != group) return {first, count, kMixedGroups};
  }
  return {first, count, group};
}

struct SharedMemory {
  TileCounts<kQueries> counts;
  TileBands<kQueries> bands;
};

// As HopperCountKernel's Consume, by one of `num_threads` threads: the same steps between the same barriers.
template <class Barrier>
void Consume(const Rows& queries, const Rows& candidates, const CountTables& tables, const Rescoring& rescoring,
             const TensorCores& model, int thread, int num_threads, SharedMemory& shared, Barrier barrier) {
  const CandidateTiles as_they_stand = {};
  int32_t self_hits = 0;
  for (QueuedPair first = {0, 0}; first.query < queries.count; first.query += kQueries) {
    for (first.row = 0; first.row < candidates.count; first.row += kCandidates) {
      const CandidateTile tile = TileAt(tables, candidates.count, first.row);
      shared.counts.Load(tables, first.query, thread, num_threads, barrier);
      shared.bands.Load(rescoring, first.row / kCandidates, first.query, thread, num_threads, shared.counts);
      barrier();
      const int32_t num_queries = std::min(kQueries, queries.count - first.query);
      for (int32_t cell = thread; cell < num_queries * tile.count; cell += num_threads) {
        const int32_t query = cell / tile.count, column = cell % tile.count;
        const float score = TensorCoreScore(queries.Row(first.query + query), candidates.Row(first.row + column),
                                            queries.width, model);
        if (score < shared.counts.lowest[query]) continue;
        ScoreSink<kQueries> sink{shared.counts, tables,   as_they_stand, tile, column, shared.counts.first[query],
                                 self_hits};
        CountWithinBand(score, query, first, rescoring.queue, shared.bands, sink);
      }
      barrier();
      shared.counts.Flush(tables, tile.group, thread, num_threads);
      shared.bands.Flush(first, rescoring.queue, thread, num_threads, barrier);
      barrier();
    }
  }
}

// The fp32 kernel, all of it in one tile per query.
void CountByChain(const Rows& queries, const Rows& candidates, const CountTables& tables, int32_t& self_hits) {
  for (int32_t query = 0; query < queries.count; ++query) {
    for (int32_t row = 0; row < candidates.count; ++row) {
      const float score = ChainScore(queries.Row(query), candidates.Row(row), queries.width);
      CountQueued(score, {query, row}, tables, self_hits);
    }
  }
}

}  // namespace
}  // namespace hybatch::ranking::cuda

using namespace hybatch;                 // NOLINT: a test
using namespace hybatch::ranking::cuda;  // NOLINT: a test

extern "C" {

void RoundValues(const float* values, int64_t count, int32_t kind, float* rounded) {
  for (int64_t i = 0; i < count; ++i) rounded[i] = Rounded(values[i], static_cast<ElementKind>(kind));
}

// Both scores of every pair, and the band when the candidates come in tiles of `tile_size`; each [Q, D].
void ScoresAndBands(const float* queries, int32_t num_queries, const float* candidates, int32_t num_candidates,
                    int32_t width, int32_t tile_size, const TensorCores* model, float* coarse, float* exact,
                    float* bands) {
  const Rows query_rows = {queries, num_queries, width}, candidate_rows = {candidates, num_candidates, width};
  const auto kind = static_cast<ElementKind>(model->kind);
  const std::vector<RowSize> query_sizes = Measure(query_rows, kind, 1);
  const std::vector<RowSize> tile_sizes = Measure(candidate_rows, kind, tile_size);
  for (int32_t q = 0; q < num_queries; ++q) {
    for (int32_t d = 0; d < num_candidates; ++d) {
      const size_t cell = static_cast<size_t>(q) * num_candidates + d;
      coarse[cell] = TensorCoreScore(query_rows.Row(q), candidate_rows.Row(d), width, *model);
      exact[cell] = ChainScore(query_rows.Row(q), candidate_rows.Row(d), width);
      bands[cell] = BandOf(query_sizes[q], tile_sizes[d / tile_size], BandTermsOf(width));
    }
  }
}

// Adds to the counters [P, G] what rescoring with a queue of this capacity counts, on threads that share a tile as a
// thread block's do. Returns the pairs that were pushed.
int64_t CountRescored(const float* queries, int32_t num_queries, const float* candidates, int32_t num_candidates,
                      int32_t width, const float* thresholds, const int64_t* positive_index, const int64_t* offsets,
                      const int32_t* groups, int64_t first_index, int64_t num_groups, int64_t capacity,
                      const TensorCores* model, int32_t num_threads, int32_t* greater, int32_t* tied_before,
                      int32_t* tied_after, int64_t* self_hits) {
  const Rows query_rows = {queries, num_queries, width}, candidate_rows = {candidates, num_candidates, width};
  HostThresholds sorted = SortOnHost(thresholds, offsets, num_queries, num_groups);
  const CountTables tables = {offsets,     positive_index, groups,     num_queries, num_groups,
                              first_index, tied_before,    tied_after, sorted.Pointers()};
  std::vector<QueuedPair> pairs(capacity);
  unsigned long long length = 0;
  const auto kind = static_cast<ElementKind>(model->kind);
  std::vector<RowSize> query_sizes = Measure(query_rows, kind, 1);
  std::vector<RowSize> tile_sizes = Measure(candidate_rows, kind, kCandidates);
  const Rescoring rescoring = {
      query_sizes.data(), tile_sizes.data(), BandTermsOf(width), {pairs.data(), &length, capacity}};
  SharedMemory shared;
  std::barrier barrier(num_threads);
  std::vector<std::jthread> threads;
  for (int32_t thread = 0; thread < num_threads; ++thread) {
    threads.emplace_back([&, thread] {
      Consume(query_rows, candidate_rows, tables, rescoring, *model, thread, num_threads, shared,
              [&] { barrier.arrive_and_wait(); });
    });
  }
  threads.clear();
  int32_t hits = 0;
  if (rescoring.queue.Overflowed()) {
    std::fill(sorted.beaten.begin(), sorted.beaten.end(), 0);
    CountByChain(query_rows, candidate_rows, tables, hits);
  } else {
    for (unsigned long long i = 0; i < length; ++i) {
      const float score = ChainScore(query_rows.Row(pairs[i].query), candidate_rows.Row(pairs[i].row), width);
      CountQueued(score, pairs[i], tables, hits);
    }
  }
  AddBeatenOnHost(sorted, offsets, num_queries, num_groups, greater);
  *self_hits += hits;
  return static_cast<int64_t>(length);
}

}  // extern "C"
