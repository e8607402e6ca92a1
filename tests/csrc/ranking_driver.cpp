// Runs the CPU ranking kernels on many shapes without torch or Python, so that sanitizers and emulators see nothing
// else, compares them with a count done the plain way, and prints a digest of all thresholds and counts.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
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
  int64_t places;  // 0: no best candidates are kept
  Values values = Values::kThirds;
};

struct Problem {
  std::vector<float> queries;
  std::vector<float> candidates;
  std::vector<int32_t> groups;
  std::vector<int64_t> positives;
  std::vector<int64_t> offsets;
};

struct Candidate {
  float score = -std::numeric_limits<float>::infinity();
  int64_t index = -1;
  bool operator==(const Candidate&) const = default;
};

bool IsBetter(const Candidate& a, const Candidate& b) {
  return a.score > b.score || (a.score == b.score && a.index < b.index);
}

struct Counts {
  std::vector<float> thresholds;
  std::vector<int32_t> greater, before, after;
  std::vector<int64_t> status;
  std::vector<Candidate> best;           // [Q, places], best first
  std::vector<Candidate> best_of_group;  // [Q, groups]
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

constexpr float kCodesPerUnit = 126;

int64_t BytesOfSigns(int64_t width) { return (width + 7) / 8; }

// Rows of values as they lie in memory.
std::vector<uint8_t> Stored(const std::vector<float>& values, int64_t width, ElementType type) {
  std::vector<uint8_t> bytes;
  const auto add = [&bytes](const auto& value) {
    const auto* from = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof(value));
  };
  if (type == ElementType::kBits) bytes.resize(width == 0 ? 0 : values.size() / width * BytesOfSigns(width));
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / width, h = static_cast<int64_t>(i) % width;
    if (type == ElementType::kFloat32) add(values[i]);
    if (type == ElementType::kBFloat16) add(static_cast<uint16_t>(std::bit_cast<uint32_t>(values[i]) >> 16));
    if (type == ElementType::kInt8) add(static_cast<int8_t>(std::lrint(values[i] * kCodesPerUnit)));
    if (type == ElementType::kBits && values[i] > 0) bytes[row * BytesOfSigns(width) + h / 8] |= 0x80 >> h % 8;
  }
  return bytes;
}

// The values whose chains of fused multiply-adds are the scores: of codes, whole numbers.
std::vector<float> Scored(const std::vector<float>& values, int64_t width, ElementType type) {
  std::vector<float> scored;
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == ElementType::kInt8) scored.push_back(std::rint(values[i] * kCodesPerUnit));
    if (type == ElementType::kBits) scored.push_back(values[i] > 0 ? 1.0f : -1.0f);
    const bool ends_row = static_cast<int64_t>(i) % width == width - 1;
    // Bits that fill up a row's last byte are zeros.
    for (int64_t h = width; type == ElementType::kBits && ends_row && h % 8 != 0; ++h) scored.push_back(-1.0f);
  }
  return IsCode(type) ? scored : values;
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

void Keep(const Shape& shape, const CountAboveTask& task, InstructionSet instruction_set, int workers,
          Counts& counts) {
  const Candidate nobody;
  std::vector<float> scores(shape.queries * shape.places, nobody.score);
  std::vector<int64_t> index(shape.queries * shape.places, nobody.index);
  std::vector<float> group_scores(shape.queries * shape.groups, nobody.score);
  std::vector<int64_t> group_index(shape.queries * shape.groups, nobody.index);
  cpu::CountAndKeep(task, {shape.places, scores.data(), index.data(), group_scores.data(), group_index.data()},
                    instruction_set, Threads(workers));
  for (size_t i = 0; i < scores.size(); ++i) counts.best.push_back({scores[i], index[i]});
  for (int64_t q = 0; q < shape.queries; ++q) {
    std::sort(counts.best.begin() + q * shape.places, counts.best.begin() + (q + 1) * shape.places, IsBetter);
  }
  for (size_t i = 0; i < group_scores.size(); ++i) counts.best_of_group.push_back({group_scores[i], group_index[i]});
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
  const std::vector<uint8_t> stored_queries = Stored(problem.queries, shape.width, type);
  const std::vector<uint8_t> stored_candidates = Stored(problem.candidates, shape.width, type);
  const int64_t width = type == ElementType::kBits ? BytesOfSigns(shape.width) : shape.width;
  const Matrix queries = {stored_queries.data(), type, shape.queries, width};
  const Matrix candidates = {stored_candidates.data(), type, shape.candidates, width};
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
  if (shape.places == 0) {
    cpu::CountAbove(task, instruction_set, Threads(workers));
  } else {
    Keep(shape, task, instruction_set, workers, counts);
  }
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

void KeepPlainly(const Shape& shape, const Problem& problem, Counts& counts) {
  if (shape.places == 0) return;
  for (int64_t q = 0; q < shape.queries; ++q) {
    std::vector<Candidate> all, of_group(shape.groups);
    for (int64_t candidate = 0; candidate < shape.candidates; ++candidate) {
      const int32_t group = problem.groups[candidate];
      if (group < 0 || group >= shape.groups) continue;
      all.push_back({Score(shape, problem, q, candidate) + 0.0f, candidate});
      if (IsBetter(all.back(), of_group[group])) of_group[group] = all.back();
    }
    std::sort(all.begin(), all.end(), IsBetter);
    all.resize(shape.places);
    counts.best.insert(counts.best.end(), all.begin(), all.end());
    counts.best_of_group.insert(counts.best_of_group.end(), of_group.begin(), of_group.end());
  }
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
    for (const std::vector<Candidate>* candidates : {&counts.best, &counts.best_of_group}) {
      for (const Candidate& candidate : *candidates) {
        Add(std::vector{candidate.score});
        Add(std::vector{candidate.index});
      }
    }
  }
  unsigned long long value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

bool Check(const Shape& shape, std::mt19937& random, std::map<InstructionSet, Digest>& digests) {
  const Problem problem = MakeProblem(shape, random);
  for (const ElementType type :
       {ElementType::kFloat32, ElementType::kBFloat16, ElementType::kInt8, ElementType::kBits}) {
    if (type != ElementType::kFloat32 && shape.values != Values::kThirds) continue;
    Problem scored = problem;
    scored.queries = Scored(problem.queries, shape.width, type);
    scored.candidates = Scored(problem.candidates, shape.width, type);
    Shape scored_shape = shape;
    if (type == ElementType::kBits) scored_shape.width = 8 * BytesOfSigns(shape.width);
    Counts expected = CountPlainly(scored_shape, scored);
    KeepPlainly(scored_shape, scored, expected);
    for (const InstructionSet instruction_set : SupportedInstructionSets()) {
      const int workers = type == ElementType::kFloat32 ? 3 : 1;
      const Counts counts = Run(shape, problem, type, instruction_set, workers);
      digests[instruction_set].Add(counts);
      if (counts == expected) continue;
      std::printf("wrong counts or candidates: %s, type %d, %d workers, %lld x %lld x %lld\n", Name(instruction_set),
                  static_cast<int>(type), workers, static_cast<long long>(shape.queries), static_cast<long long>(shape.candidates),
                  static_cast<long long>(shape.width));
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::vector<Shape> shapes = {{0, 0, 0, 0, 0, true, 1},     {0, 50, 4, 2, 0, true, 3},    {50, 0, 4, 2, 0, true, 2},
                               {30, 40, 0, 2, 3, true, 50},  {14, 32, 1, 1, 1, true, 9},   {15, 33, 65, 0, 2, false, 9},
                               {20, 600, 900, 2, 5, true, 40}, {9, 3000, 20, 3, 300, false, 100},
                               {70, 2500, 8, 2, 3, true, 7}};
  const auto below = [&random](int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(random); };
  for (int i = 0; i < 60; ++i) {
    const Values values = i < 40 ? Values::kThirds : i < 50 ? Values::kAllBits : Values::kSubnormals;
    shapes.push_back({below(60), below(200), below(150), below(5), below(20), below(2) == 0, below(60), values});
  }
  std::map<InstructionSet, Digest> digests;
  for (const Shape& shape : shapes) {
    if (!Check(shape, random, digests)) return 1;
  }
  std::printf("%zu shapes: every instruction set counts as expected\n", shapes.size());
  for (const auto& [set, digest] : digests) std::printf("%s %016llx\n", Name(set), digest.value());
  return 0;
}
