// Runs the CPU loss kernels on many shapes without torch or Python, so that sanitizers see nothing else, and compares
// them with sums done the plain way in double precision.

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
  const auto wide = [](const std::vector<float>& values) { return std::vector<double>(values.begin(), values.end()); };
  return one.row_lse == two.row_lse && one.positive_logit == two.positive_logit &&
         Close(one.grad_queries, wide(two.grad_queries)) && Close(one.grad_candidates, wide(two.grad_candidates));
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
    if (right && repeats && agrees) continue;
    std::printf("%s: right %d, repeats %d, one pass agrees %d: %lld x %lld x %lld\n", hybatch::Name(set),
                right, repeats, agrees, static_cast<long long>(shape.queries),
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
