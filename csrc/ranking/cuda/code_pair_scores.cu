// Thresholds of codes: a warp per pair.

#include "codes.cuh"
#include "common/cuda/runtime.h"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kWarps = 8;

template <ElementKind kKind>
__global__ void __launch_bounds__(kWarps * 32)
    CodePairScoresKernel(PairScoresTask task, int64_t num_positives, const uint8_t* queries,
                         const uint8_t* embeddings) {
  const int lane = threadIdx.x % 32;
  const int64_t width = task.queries.width, stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t p = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; p < num_positives; p += stride) {
    const int64_t row = task.rows != nullptr ? task.rows[p] : p;
    const bool inside = row >= 0 && row < task.embeddings.rows;
    const uint8_t* query = queries + OwnerOf(task.offsets, task.queries.rows, p) * width;
    int32_t sum = 0;
    for (int64_t h = lane; inside && h < width; h += 32) {
      sum = AddCodes<kKind>(query[h], embeddings[row * width + h], sum);  // a byte each, and three of zeros
    }
    sum = __reduce_add_sync(0xffffffffu, sum);
    const float score = ScoreOfCodes<kKind>(sum, static_cast<int>(width));
    if (lane == 0) task.scores[p] = inside ? score : __int_as_float(0x7fffffff);
  }
}

}  // namespace

void CodePairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream) {
  const auto* queries = static_cast<const uint8_t*>(task.queries.data);
  const auto* embeddings = static_cast<const uint8_t*>(task.embeddings.data);
  const unsigned blocks = BlocksFor(num_positives, kWarps);
  const auto launch = [&]<ElementKind kKind>() {
    CodePairScoresKernel<kKind><<<blocks, kWarps * 32, 0, stream>>>(task, num_positives, queries, embeddings);
  };
  if (kind == ElementKind::kInt8) {
    launch.template operator()<ElementKind::kInt8>();
  } else {
    launch.template operator()<ElementKind::kBits>();
  }
  CheckLaunch("launching CodePairScoresKernel");
}

}  // namespace hybatch::ranking::cuda
