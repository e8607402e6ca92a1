#include "pair_scores.h"

#include <bit>
#include <cstring>

namespace hybatch::ranking::cpu {
namespace {

int32_t ProductOfInt8(const uint8_t* query, const uint8_t* row, int64_t width) {
  int32_t sum = 0;
  for (int64_t h = 0; h < width; ++h) sum += static_cast<int8_t>(query[h]) * static_cast<int8_t>(row[h]);
  return sum;
}

int32_t ProductOfBits(const uint8_t* query, const uint8_t* row, int64_t width) {
  int32_t differing = 0;
  int64_t h = 0;
  for (; h + 8 <= width; h += 8) {
    uint64_t a, b;
    std::memcpy(&a, query + h, 8);
    std::memcpy(&b, row + h, 8);
    differing += std::popcount(a ^ b);
  }
  for (; h < width; ++h) differing += std::popcount(static_cast<uint8_t>(query[h] ^ row[h]));
  return static_cast<int32_t>(8 * width) - 2 * differing;
}

template <int32_t (*kProduct)(const uint8_t*, const uint8_t*, int64_t)>
void ScorePairs(const PairScoresTask& task, int64_t first, int64_t end) {
  const int64_t width = task.queries.width;
  const uint8_t* queries = static_cast<const uint8_t*>(task.queries.data);
  const uint8_t* embeddings = static_cast<const uint8_t*>(task.embeddings.data);
  for (int64_t q = first; q < end; ++q) {
    for (int64_t p = task.offsets[q]; p < task.offsets[q + 1]; ++p) {
      const int64_t row = task.rows == nullptr ? p : task.rows[p];
      task.scores[p] = static_cast<float>(kProduct(queries + q * width, embeddings + row * width, width));
    }
  }
}

}  // namespace

void PairScoresOfInt8(const PairScoresTask& task, int64_t first, int64_t end, float*) {
  ScorePairs<ProductOfInt8>(task, first, end);
}

void PairScoresOfBits(const PairScoresTask& task, int64_t first, int64_t end, float*) {
  ScorePairs<ProductOfBits>(task, first, end);
}

}  // namespace hybatch::ranking::cpu
