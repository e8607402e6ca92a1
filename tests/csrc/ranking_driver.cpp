// Runs the CPU ranking kernels on many shapes without torch or Python, so that sanitizers and emulators see nothing
// else, compares them with a count done the plain way, and prints a digest of all thresholds and counts.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "ranking/cpu/rank_counts.h"

namespace {

using namespace hybatch;           // NOLINT: a test
using namespace hybatch::ranking;  // NOLINT: of that namespace

enum class Values {
  kThirds,      // a few thirds cut off to bfloat16: ties are frequent, sums still round
  kAllBits,     // as many bits as a float holds
  kSubnormals,  // the same, so small that products and sums are subnormal
};

struct Shape {
  int64_t queries;
  int64_t candidates;
  int64_t width;
  int64_t groups;
  int64_t most_positives;
  bool sorted;
  Values values = Values::kThirds;
};

struct Problem {
  std::vector<float> queries;
  std::vector<float> candidates;
  std::vector<int32_t> groups;
  std::vector<int64_t> positives;
  std::vector<int64_t> offsets;
};

struct Counts {
  std::vector<float> thresholds;
  std::vector<int32_t> greater, before, after;
  std::vector<int64_t> status;
  bool operator==(const Counts&) const = default;
};

float Value(Values values, std::mt19937& random) {
  if (values == Values::kThirds) {
    const float value = static_cast<float>(std::uniform_int_distribution<int>(-3, 3)(random)) / 3.0f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(value) & 0xffff0000u);
  }
  const float value = std::ldexp(static_cast<float>(random()), -32) - 0.5f;
  return values == Values::kAllBits ? value : std::ldexp(value, -66);
}

std::vector<uint16_t> InBFloat16(const std::vector<float>& values) {
  std::vector<uint16_t> narrow;
  for (const float value : values) narrow.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  return narrow;
}

Problem MakeProblem(const Shape& shape, std::mt19937& random) {
  Problem problem;
  const auto value = [&] { return Value(shape.values, random); };
  for (int64_t i = 0; i < shape.queries * shape.width; ++i) problem.queries.push_back(value());
  for (int64_t i = 0; i < shape.candidates * shape.width; ++i) problem.candidates.push_back(value());
  for (int64_t i = 0; i < shape.candidates; ++i) {
    const int64_t place = shape.sorted ? i * (shape.groups + 2) / shape.candidates : random() % (shape.groups + 2);
    problem.groups.push_back(static_cast<int32_t>(place - 1));  // -1 and `groups` are outside
  }
  problem.offsets.push_back(0);
  for (int64_t q = 0; q < shape.queries; ++q) {
    const int64_t count = shape.candidates == 0 ? 0 : random() % (shape.most_positives + 1);
    for (int64_t p = 0; p < count; ++p) problem.positives.push_back(random() % shape.candidates);
    problem.offsets.push_back(static_cast<int64_t>(problem.positives.size()));
  }
  return problem;
}

Parallel Threads(int workers) {
  return {workers, [workers](const std::function<void(int)>& body) {
            std::vector<std::thread> threads;
            for (int worker = 0; worker < workers; ++worker) threads.emplace_back(body, worker);
            for (std::thread& thread : threads) thread.join();
          }};
}

Counts Run(const Shape& shape, const Problem& problem, ElementType type, InstructionSet instruction_set,
           int workers) {
  const int64_t positives = static_cast<int64_t>(problem.positives.size());
  Counts counts;
  counts.thresholds.resize(positives);
  for (std::vector<int32_t>* table : {&counts.greater, &counts.before, &counts.after}) {
    table->resize(positives * shape.groups);
  }
  counts.status.resize(kStatusSlots);
  const std::vector<uint16_t> narrow_queries = InBFloat16(problem.queries);
  const std::vector<uint16_t> narrow_candidates = InBFloat16(problem.candidates);
  Matrix queries = {problem.queries.data(), type, shape.queries, shape.width};
  Matrix candidates = {problem.candidates.data(), type, shape.candidates, shape.width};
  if (type == ElementType::kBFloat16) {
    queries.data = narrow_queries.data();
    candidates.data = narrow_candidates.data();
  }
  const PairScoresTask pairs = {queries, candidates, problem.positives.data(), problem.offsets.data(),
                                counts.thresholds.data()};
  cpu::PairScores(pairs, instruction_set, Threads(workers));
  const CountAboveTask task = {queries,
                               candidates,
                               counts.thresholds.data(),
                               problem.positives.data(),
                               problem.offsets.data(),
                               problem.groups.data(),
                               /*first_index=*/0,
                               shape.groups,
                               counts.greater.data(),
                               counts.before.data(),
                               counts.after.data(),
                               counts.status.data()};
  cpu::CountAbove(task, instruction_set, Threads(workers));
  return counts;
}

float Score(const Shape& shape, const Problem& problem, int64_t query, int64_t candidate) {
  float chain = 0.0f;
  for (int64_t h = 0; h < shape.width; ++h) {
    chain = std::fma(problem.queries[query * shape.width + h], problem.candidates[candidate * shape.width + h], chain);
  }
  return chain;
}

Counts CountPlainly(const Shape& shape, const Problem& problem) {
  const int64_t positives = static_cast<int64_t>(problem.positives.size());
  Counts counts;
  counts.greater.resize(positives * shape.groups);
  counts.before = counts.after = counts.greater;
  counts.status = {positives, 0, 0, 0};
  for (int64_t q = 0; q < shape.queries; ++q) {
    for (int64_t p = problem.offsets[q]; p < problem.offsets[q + 1]; ++p) {
      const int64_t own = problem.positives[p];
      const float threshold = Score(shape, problem, q, own);
      counts.thresholds.push_back(threshold);
      for (int64_t candidate = 0; candidate < shape.candidates; ++candidate) {
        const int32_t group = problem.groups[candidate];
        if (candidate == own || group < 0 || group >= shape.groups) continue;
        const float score = Score(shape, problem, q, candidate);
        const int64_t place = p * shape.groups + group;
        counts.greater[place] += score > threshold;
        counts.before[place] += score == threshold && candidate < own;
        counts.after[place] += score == threshold && candidate > own;
      }
    }
  }
  return counts;
}

// FNV-1a over the bits of what follows one another.
class Digest {
 public:
  template <typename T>
  void Add(const std::vector<T>& values) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
    for (size_t i = 0; i < values.size() * sizeof(T); ++i) state_ = (state_ ^ bytes[i]) * 0x100000001b3u;
  }
  void Add(const Counts& counts) {
    Add(counts.thresholds);
    for (const std::vector<int32_t>* table : {&counts.greater, &counts.before, &counts.after}) Add(*table);
    Add(counts.status);
  }
  unsigned long long value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

bool Check(const Shape& shape, std::mt19937& random, std::map<InstructionSet, Digest>& digests) {
  const Problem problem = MakeProblem(shape, random);
  const Counts expected = CountPlainly(shape, problem);
  for (const InstructionSet instruction_set : SupportedInstructionSets()) {
    for (const ElementType type : {ElementType::kFloat32, ElementType::kBFloat16}) {
      if (type == ElementType::kBFloat16 && shape.values != Values::kThirds) continue;
      const int workers = type == ElementType::kFloat32 ? 3 : 1;
      const Counts counts = Run(shape, problem, type, instruction_set, workers);
      digests[instruction_set].Add(counts);
      if (counts == expected) continue;
      std::printf("wrong counts: %s, %d workers, %lld x %lld x %lld\n", Name(instruction_set), workers,
                  static_cast<long long>(shape.queries), static_cast<long long>(shape.candidates),
                  static_cast<long long>(shape.width));
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::vector<Shape> shapes = {{0, 0, 0, 0, 0, true},    {0, 50, 4, 2, 0, true},  {50, 0, 4, 2, 0, true},
                               {30, 40, 0, 2, 3, true},  {14, 32, 1, 1, 1, true}, {15, 33, 65, 0, 2, false},
                               {20, 600, 900, 2, 5, true}, {9, 3000, 20, 3, 300, false}};
  const auto below = [&random](int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(random); };
  for (int i = 0; i < 60; ++i) {
    const Values values = i < 40 ? Values::kThirds : i < 50 ? Values::kAllBits : Values::kSubnormals;
    shapes.push_back({below(60), below(200), below(150), below(5), below(20), below(2) == 0, values});
  }
  std::map<InstructionSet, Digest> digests;
  for (const Shape& shape : shapes) {
    if (!Check(shape, random, digests)) return 1;
  }
  std::printf("%zu shapes: every instruction set counts as expected\n", shapes.size());
  for (const auto& [set, digest] : digests) std::printf("%s %016llx\n", Name(set), digest.value());
  return 0;
}
