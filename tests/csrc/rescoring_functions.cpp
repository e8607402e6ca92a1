// What rescoring is sure of: the device's roundings and bands, beside scores by the fp32 chain and by a model of the
// tensor cores. Called from Python, which brings the embeddings.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common/cuda/elements.h"
#include "ranking/cuda/score_band.h"

namespace hybatch::ranking::cuda {
namespace {

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
}
