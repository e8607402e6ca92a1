// Runs the CPU loss kernels on many shapes without torch or Python, so that sanitizers see nothing else, and compares
// them with sums done the plain way in double precision.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "contrastive/cpu/contrastive_loss.h"
#include "contrastive/cpu/product_tile.h"

namespace {

using namespace hybatch::contrastive;  // NOLINT: a test of that namespace
using hybatch::ElementType;
using hybatch::InstructionSet;
using hybatch::Parallel;

struct Shape {
  int64_t queries, candidates, width;
};

struct Problem {
  std::vector<float> queries, candidates, row_weight, positive_weight, column_weight;
  std::vector<int64_t> positive_index, query_groups, candidate_groups;
  std::vector<uint8_t> left_out;  // exactly as many bytes as the kernels may read
  float scale;
};

struct Results {
  std::vector<double> row_lse, positive_logit, column_lse, grad_queries, grad_candidates;
};

Problem MakeProblem(const Shape& shape, std::mt19937& random) {
  const auto value = [&random] { return static_cast<float>(static_cast<int>(random() % 65) - 32) / 32.0f; };
  Problem problem;
  problem.scale = 20.0f / static_cast<float>(shape.width + 1);
  for (int64_t i = 0; i < shape.queries * shape.width; ++i) problem.queries.push_back(value());
  for (int64_t i = 0; i < shape.candidates * shape.width; ++i) problem.candidates.push_back(value());
  for (int64_t q = 0; q < shape.queries; ++q) {
    problem.positive_index.push_back(static_cast<int64_t>(random() % (shape.candidates + 1)) - 1);
    problem.query_groups.push_back(static_cast<int64_t>(random() % 5) - 1);
    problem.row_weight.push_back(value());
    problem.positive_weight.push_back(value());
  }
  for (int64_t d = 0; d < shape.candidates; ++d) {
    problem.candidate_groups.push_back(static_cast<int64_t>(random() % 6) - 2);
    problem.column_weight.push_back(value());
  }
  for (int64_t byte = 0; byte < shape.queries * LeftOutStride(shape.candidates); ++byte) {
    problem.left_out.push_back(random() % 3 == 0 ? static_cast<uint8_t>(random()) : 0);
  }
  return problem;
}

Results Plainly(const Shape& shape, const Problem& p) {
  const double nothing = -std::numeric_limits<double>::infinity();
  Results r;
  r.positive_logit.resize(shape.queries);
  std::vector<double> logits(shape.queries * shape.candidates, nothing);
  std::vector<double> row_sum(shape.queries), column_sum(shape.candidates);
  for (int64_t q = 0; q < shape.queries; ++q) {
    for (int64_t d = 0; d < shape.candidates; ++d) {
      const int64_t group = p.candidate_groups[d];
      const bool positive = d == p.positive_index[q];
      const bool left_out = (p.left_out[q * LeftOutStride(shape.candidates) + d / 8] >> (d % 8) & 1) != 0;
      if (!positive && (left_out || group == kEmptySlot || (group >= 0 && group == p.query_groups[q]))) continue;
      double product = 0;
      for (int64_t h = 0; h < shape.width; ++h) {
        product += static_cast<double>(p.queries[q * shape.width + h]) * p.candidates[d * shape.width + h];
      }
      const double logit = product * p.scale;
      logits[q * shape.candidates + d] = logit;
      if (positive) r.positive_logit[q] = logit;
      row_sum[q] += std::exp(logit);
      column_sum[d] += std::exp(logit);
    }
  }
  for (const double sum : row_sum) r.row_lse.push_back(std::log(sum));
  for (const double sum : column_sum) r.column_lse.push_back(std::log(sum));
  r.grad_queries.resize(p.queries.size());
  r.grad_candidates.resize(p.candidates.size());
  for (int64_t q = 0; q < shape.queries; ++q) {
    for (int64_t d = 0; d < shape.candidates; ++d) {
      const double logit = logits[q * shape.candidates + d];
      if (logit == nothing) continue;
      double weight = p.row_weight[q] * std::exp(logit - r.row_lse[q]);
      weight += p.column_weight[d] * std::exp(logit - r.column_lse[d]);
      if (d == p.positive_index[q]) weight += p.positive_weight[q];
      for (int64_t h = 0; h < shape.width; ++h) {
        r.grad_queries[q * shape.width + h] += p.scale * weight * p.candidates[d * shape.width + h];
        r.grad_candidates[d * shape.width + h] += p.scale * weight * p.queries[q * shape.width + h];
      }
    }
  }
  return r;
}

bool Close(const std::vector<float>& ours, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (ours[i] == expected[i]) continue;  // infinities
    if (!(std::abs(ours[i] - expected[i]) <= 1e-4 * (1 + std::abs(expected[i])))) return false;
  }
  return true;
}

Parallel Threads(int workers) {
  return {workers, [workers](const std::function<void(int)>& body) {
            std::vector<std::thread> threads;
            for (int worker = 0; worker < workers; ++worker) threads.emplace_back(body, worker);
            for (std::thread& thread : threads) thread.join();
          }};
}

std::vector<uint16_t> InBFloat16(const std::vector<float>& values) {
  std::vector<uint16_t> narrow;  // exact: the values have seven bits
  for (const float value : values) narrow.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  return narrow;
}

struct Outputs {
  std::vector<float> row_lse, positive_logit, column_lse, grad_queries, grad_candidates;
  float grad_scale = 0;
  explicit Outputs(const Shape& s)
      : row_lse(s.queries),
        positive_logit(s.queries),
        column_lse(s.candidates),
        grad_queries(s.queries * s.width),
        grad_candidates(s.candidates * s.width) {}
  Gradients gradients() { return {grad_queries.data(), grad_candidates.data(), &grad_scale}; }
  bool operator==(const Outputs&) const = default;
};

Outputs ForwardThenBackward(const Shape& shape, const Problem& p, const LossInputs& inputs, InstructionSet set,
                            int workers) {
  Outputs out(shape);
  cpu::Forward({inputs, out.row_lse.data(), out.positive_logit.data(), out.column_lse.data()}, set, Threads(workers));
  cpu::Backward({inputs, out.row_lse.data(), p.row_weight.data(), p.positive_weight.data(), out.column_lse.data(),
                 p.column_weight.data(), out.gradients()},
                set, Threads(workers));
  return out;
}

std::vector<double> Wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

// The one pass against the two, with the weights that it stands for. A row without positive has no place in it.
bool OnePassAgrees(const Shape& shape, const Problem& p, LossInputs inputs, InstructionSet set) {
  const std::vector<float> ones(shape.queries, 1.0f), minus_ones(shape.queries, -1.0f);
  std::vector<int64_t> positives = p.positive_index;
  for (int64_t& positive : positives) positive = positive < 0 ? 0 : positive;
  inputs.positive_index = positives.data();
  Outputs one(shape), two(shape);
  cpu::ForwardBackward({inputs, one.row_lse.data(), one.positive_logit.data(), one.gradients()}, set, Threads(2));
  cpu::Forward({inputs, two.row_lse.data(), two.positive_logit.data(), nullptr}, set, Threads(3));
  cpu::Backward({inputs, two.row_lse.data(), ones.data(), minus_ones.data(), nullptr, nullptr, two.gradients()}, set,
                Threads(3));
  return one.row_lse == two.row_lse && one.positive_logit == two.positive_logit &&
         Close(one.grad_queries, Wide(two.grad_queries)) && Close(one.grad_candidates, Wide(two.grad_candidates));
}

// Products and both gradients are summed here, in double precision; the kernels do what lies between, tile by tile.
// Results are exactly as long as the kernels may write.
class Tiled {
 public:
  Tiled(const Shape& shape, const Problem& problem, const LossInputs& inputs, InstructionSet set, int workers)
      : shape_(shape), problem_(problem), inputs_(inputs), set_(set), parallel_(Threads(workers)) {}

  Outputs ForwardThenBackward(int64_t tile_rows, int64_t tile_columns) const {
    const float nothing = -std::numeric_limits<float>::infinity();
    Outputs out(shape_);
    std::vector<float> row_maxima(shape_.queries, nothing), row_sums(shape_.queries);
    std::vector<float> column_maxima(shape_.candidates, nothing), column_sums(shape_.candidates);
    ForEachTile(tile_rows, tile_columns, [&](int64_t q, int64_t d, const cpu::ProductTile& tile) {
      cpu::AddSums(tile, {&row_maxima[q], &row_sums[q]}, {&column_maxima[d], &column_sums[d]}, &out.positive_logit[q],
                   set_, parallel_);
    });
    for (int64_t q = 0; q < shape_.queries; ++q) out.row_lse[q] = row_maxima[q] + std::log(row_sums[q]);
    for (int64_t d = 0; d < shape_.candidates; ++d) out.column_lse[d] = column_maxima[d] + std::log(column_sums[d]);
    ForEachTile(tile_rows, tile_columns, [&](int64_t q, int64_t d, const cpu::ProductTile& tile) {
      BackwardTask known = {};
      known.row_lse = &out.row_lse[q];
      known.grad_row_lse = &problem_.row_weight[q];
      known.grad_positive = &problem_.positive_weight[q];
      known.column_lse = &out.column_lse[d];
      known.grad_column_lse = &problem_.column_weight[d];
      cpu::KnownWeights(tile, known, set_, parallel_);
      AddGradients(q, d, tile, out);
    });
    return out;
  }

  Outputs OnePass(int64_t tile_rows) const {
    Outputs out(shape_);
    std::vector<float> maxima(shape_.queries), sums(shape_.queries);
    ForEachTile(tile_rows, shape_.candidates, [&](int64_t q, int64_t d, const cpu::ProductTile& tile) {
      cpu::LossWeights(tile, {&maxima[q], &sums[q]}, &out.positive_logit[q], set_, parallel_);
      AddGradients(q, d, tile, out);
    });
    for (int64_t q = 0; q < shape_.queries; ++q) out.row_lse[q] = maxima[q] + std::log(sums[q]);
    return out;
  }

 private:
  template <class Body>
  void ForEachTile(int64_t rows, int64_t columns, const Body& body) const {
    for (int64_t q = 0; q < shape_.queries; q += rows) {
      for (int64_t d = 0; d < shape_.candidates; d += columns) {
        const int64_t num_rows = std::min(rows, shape_.queries - q);
        const int64_t num_columns = std::min(columns, shape_.candidates - d);
        const int64_t stride = cpu::FewestColumns(num_columns);
        std::vector<float> products(num_rows * stride, std::numeric_limits<float>::quiet_NaN());
        for (int64_t i = 0; i < num_rows; ++i) {
          for (int64_t j = 0; j < num_columns; ++j) products[i * stride + j] = Product(q + i, d + j);
        }
        LossInputs inputs = inputs_;
        inputs.queries = {nullptr, ElementType::kFloat32, num_rows, 0};
        inputs.candidates = {nullptr, ElementType::kFloat32, num_columns, 0};
        inputs.positive_index += q;
        inputs.query_groups += q;
        inputs.candidate_groups += d;
        inputs.left_out += q * inputs.left_out_stride;
        body(q, d, cpu::ProductTile{products.data(), stride, inputs, d});
      }
    }
  }

  float Product(int64_t q, int64_t d) const {
    double sum = 0;
    for (int64_t h = 0; h < shape_.width; ++h) {
      sum += static_cast<double>(problem_.queries[q * shape_.width + h]) * problem_.candidates[d * shape_.width + h];
    }
    return static_cast<float>(sum);
  }

  void AddGradients(int64_t q, int64_t d, const cpu::ProductTile& tile, Outputs& out) const {
    for (int64_t i = 0; i < tile.inputs.queries.rows; ++i) {
      for (int64_t j = 0; j < tile.inputs.candidates.rows; ++j) {
        const float weight = tile.values[i * tile.stride + j];
        for (int64_t h = 0; h < shape_.width; ++h) {
          out.grad_queries[(q + i) * shape_.width + h] += weight * problem_.candidates[(d + j) * shape_.width + h];
          out.grad_candidates[(d + j) * shape_.width + h] += weight * problem_.queries[(q + i) * shape_.width + h];
        }
      }
    }
  }

  const Shape& shape_;
  const Problem& problem_;
  const LossInputs& inputs_;
  InstructionSet set_;
  Parallel parallel_;
};

bool TilesAgree(const Shape& shape, const Problem& p, LossInputs inputs, InstructionSet set, const Results& expected) {
  const Tiled tiled(shape, p, inputs, set, 3);
  const Outputs out = tiled.ForwardThenBackward(shape.queries, shape.candidates);
  // Few tiles: each starts threads, which an emulator takes long for.
  const Outputs pieces = tiled.ForwardThenBackward((shape.queries + 1) / 2, (shape.candidates + 2) / 3);
  for (const Outputs& found : {out, pieces}) {
    if (!(Close(found.row_lse, expected.row_lse) && Close(found.column_lse, expected.column_lse) &&
          Close(found.positive_logit, expected.positive_logit) && Close(found.grad_queries, expected.grad_queries) &&
          Close(found.grad_candidates, expected.grad_candidates))) {
      return false;
    }
  }
  if (!(Tiled(shape, p, inputs, set, 1).ForwardThenBackward(shape.queries, shape.candidates) == out)) return false;
  std::vector<int64_t> positives = p.positive_index;
  for (int64_t& positive : positives) positive = positive < 0 ? 0 : positive;
  inputs.positive_index = positives.data();
  Outputs compiled(shape);
  cpu::ForwardBackward({inputs, compiled.row_lse.data(), compiled.positive_logit.data(), compiled.gradients()}, set,
                       Threads(2));
  const Outputs one = Tiled(shape, p, inputs, set, 2).OnePass(40);
  return Close(one.row_lse, Wide(compiled.row_lse)) && Close(one.positive_logit, Wide(compiled.positive_logit)) &&
         Close(one.grad_queries, Wide(compiled.grad_queries)) &&
         Close(one.grad_candidates, Wide(compiled.grad_candidates));
}

bool Check(const Shape& shape, std::mt19937& random) {
  const Problem p = MakeProblem(shape, random);
  const Results expected = Plainly(shape, p);
  const std::vector<uint16_t> narrow_queries = InBFloat16(p.queries), narrow_candidates = InBFloat16(p.candidates);
  const auto inputs = [&](bool narrow) {
    const ElementType type = narrow ? ElementType::kBFloat16 : ElementType::kFloat32;
    const void* queries = narrow ? static_cast<const void*>(narrow_queries.data()) : p.queries.data();
    const void* candidates = narrow ? static_cast<const void*>(narrow_candidates.data()) : p.candidates.data();
    return LossInputs{{queries, type, shape.queries, shape.width},
                      {candidates, type, shape.candidates, shape.width},
                      p.positive_index.data(), p.query_groups.data(), p.candidate_groups.data(), &p.scale,
                      p.left_out.data(), LeftOutStride(shape.candidates)};
  };
  for (const InstructionSet set : hybatch::SupportedInstructionSets()) {
    const Outputs out = ForwardThenBackward(shape, p, inputs(false), set, 3);
    const bool right = Close(out.row_lse, expected.row_lse) && Close(out.column_lse, expected.column_lse) &&
                       Close(out.positive_logit, expected.positive_logit) &&
                       Close(out.grad_queries, expected.grad_queries) &&
                       Close(out.grad_candidates, expected.grad_candidates);
    const bool repeats = out == ForwardThenBackward(shape, p, inputs(true), set, 1);
    const bool agrees = shape.candidates == 0 || OnePassAgrees(shape, p, inputs(false), set);
    const bool empty = shape.queries == 0 || shape.candidates == 0;
    const bool tiles = empty || TilesAgree(shape, p, inputs(false), set, expected);
    if (right && repeats && agrees && tiles) continue;
    std::printf("%s: right %d, repeats %d, one pass agrees %d, tiles agree %d: %lld x %lld x %lld\n",
                hybatch::Name(set), right, repeats, agrees, tiles, static_cast<long long>(shape.queries),
                static_cast<long long>(shape.candidates), static_cast<long long>(shape.width));
    return false;
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::vector<Shape> shapes = {{0, 0, 0},   {0, 50, 4},   {50, 0, 4},  {30, 40, 0},    {14, 32, 1},
                               {15, 33, 65}, {600, 20, 7}, {20, 600, 9}, {5, 300, 800}, {530, 270, 3}};
  const auto below = [&random](int64_t limit) { return static_cast<int64_t>(random() % limit); };
  for (int i = 0; i < 30; ++i) shapes.push_back({below(60), below(120), below(90)});
  for (const Shape& shape : shapes) {
    if (!Check(shape, random)) return 1;
  }
  std::printf("%zu shapes: every instruction set computes loss and gradients as expected\n", shapes.size());
  return 0;
}
