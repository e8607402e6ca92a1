// Thresholds by the fp32 chain.

#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "pair_chain.cuh"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {
namespace {

template <ElementKind kKind>
__global__ void __launch_bounds__(kPairWarps * 32)
    PairScoresKernel(PairScoresTask task, int64_t num_positives, const typename Element<kKind>::Stored* queries,
                     const typename Element<kKind>::Stored* embeddings) {
  __shared__ PairSlabs slabs;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kPairWarps * 32;
  for (int64_t start = (static_cast<int64_t>(blockIdx.x) * kPairWarps + warp) * 32; start < num_positives;
       start += stride) {
    const int64_t p = start + lane;
    int64_t query = -1, row = -1;
    if (p < num_positives) {
      row = task.rows != nullptr ? task.rows[p] : p;
      if (row < 0 || row >= task.embeddings.rows) row = -1;
      query = OwnerOf(task.offsets, task.queries.rows, p);
    }
    const float score = ScorePairs<kKind>(queries, embeddings, task.queries.width, query, row, slabs);
    if (p < num_positives) task.scores[p] = row >= 0 ? score : __int_as_float(0x7fffffff);
  }
}

}  // namespace

void GenericPairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream) {
  WithKind(kind, [&]<ElementKind kKind>() {
    using Stored = typename Element<kKind>::Stored;
    PairScoresKernel<kKind><<<BlocksFor(num_positives, kPairWarps * 32), kPairWarps * 32, 0, stream>>>(
        task, num_positives, static_cast<const Stored*>(task.queries.data),
        static_cast<const Stored*>(task.embeddings.data));
  });
  CheckLaunch("launching PairScoresKernel");
}

}  // namespace hybatch::ranking::cuda
