// The rescoring emulation with several threads to a tile, for ThreadSanitizer: the barriers between the steps suffice.

#include <cstdio>
#include <random>
#include <vector>

#include "rescoring_emulation.cpp"

namespace {

struct Result {
  std::vector<int32_t> greater, before, after;
  int64_t self_hits = 0, pushed = 0;
  bool operator==(const Result&) const = default;
};

// Integers tie often: some tiles have more undecided pairs than they can note down. With thresholds shifted far enough
// down, no pair is undecided.
Result Count(int32_t num_threads, int32_t width, int64_t capacity, float shift) {
  constexpr int32_t kRows = 300, kGroups = 3;
  std::mt19937 random(width);
  std::vector<float> queries(150 * width), candidates(kRows * width), thresholds;
  for (float& value : queries) value = static_cast<float>(random() % 5) - 2;
  for (float& value : candidates) value = static_cast<float>(random() % 5) - 2;
  std::vector<int64_t> positives, offsets = {0};
  std::vector<int32_t> groups;
  for (int32_t row = 0; row < kRows; ++row) groups.push_back(row * kGroups / kRows);
  for (int32_t query = 0; query < 150; ++query) {
    for (uint32_t i = random() % 4; i > 0; --i) {
      positives.push_back(random() % kRows);
      thresholds.push_back(ChainScore(&queries[query * width], &candidates[positives.back() * width], width) + shift);
    }
    offsets.push_back(static_cast<int64_t>(positives.size()));
  }
  const std::vector<int32_t> zeros(positives.size() * kGroups);
  Result result = {zeros, zeros, zeros};
  const TensorCores model = {static_cast<int32_t>(ElementKind::kBFloat16), 8, 23, 0, 0};
  result.pushed = CountRescored(queries.data(), 150, candidates.data(), kRows, width, thresholds.data(),
                                positives.data(), offsets.data(), groups.data(), 0, kGroups, capacity, &model,
                                num_threads, result.greater.data(), result.before.data(), result.after.data(),
                                &result.self_hits);
  return result;
}

bool AgreeOn(int32_t width, int64_t capacity, float shift) {
  return Count(8, width, capacity, shift) == Count(1, width, capacity, shift);
}

}  // namespace

int main() {
  for (const int32_t width : {2, 5, 30}) {
    if (AgreeOn(width, 150 * 300, 0) && AgreeOn(width, 500, 0) && AgreeOn(width, 500, -1000)) continue;
    std::fprintf(stderr, "8 threads and 1 differ at width %d\n", width);
    return 1;
  }
  std::puts("ok");
  return 0;
}
