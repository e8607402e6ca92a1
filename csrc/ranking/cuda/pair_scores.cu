// Thresholds by the fp32 chain: a lane per pair, its rows brought in by the whole warp.

#include "generic.cuh"
#include "runtime.h"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kDepth = 32;
constexpr unsigned kFullWarp = 0xffffffffu;

using Slab = float[32][kDepth + 1];

// Element `lane` of the slab of each of the warp's 32 rows; row[i] is held by lane i, negative: none.
template <ElementKind kKind>
__device__ void LoadSlab(const typename Element<kKind>::Stored* data, int64_t width, int64_t row, int64_t first,
                         Slab& slab) {
  const int lane = threadIdx.x % 32;
#pragma unroll 8
  for (int i = 0; i < 32; ++i) {
    const int64_t other = __shfl_sync(kFullWarp, row, i);
    const bool inside = other >= 0 && first + lane < width;
    slab[i][lane] = inside ? Element<kKind>::Value(data[other * width + first + lane]) : 0.0f;
  }
}

template <ElementKind kKind>
__global__ void __launch_bounds__(kWarps * 32)
    PairScoresKernel(PairScoresTask task, int64_t num_positives, const typename Element<kKind>::Stored* queries,
                     const typename Element<kKind>::Stored* embeddings) {
  __shared__ Slab query_slabs[kWarps], embedding_slabs[kWarps];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t width = task.queries.width;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps * 32;
  for (int64_t start = (static_cast<int64_t>(blockIdx.x) * kWarps + warp) * 32; start < num_positives;
       start += stride) {
    const int64_t p = start + lane;
    int64_t query = -1, row = -1;
    if (p < num_positives) {
      row = task.rows != nullptr ? task.rows[p] : p;
      if (row < 0 || row >= task.embeddings.rows) row = -1;
      query = OwnerOf(task.offsets, task.queries.rows, p);
    }
    float score = 0.0f;
    for (int64_t first = 0; first < width; first += kDepth) {
      LoadSlab<kKind>(queries, width, query, first, query_slabs[warp]);
      LoadSlab<kKind>(embeddings, width, row, first, embedding_slabs[warp]);
      __syncwarp();
      const int depth = width - first < kDepth ? static_cast<int>(width - first) : kDepth;
#pragma unroll 8
      for (int h = 0; h < depth; ++h) {
        score = __fmaf_rn(query_slabs[warp][lane][h], embedding_slabs[warp][lane][h], score);
      }
      __syncwarp();
    }
    if (p < num_positives) task.scores[p] = row >= 0 ? score : __int_as_float(0x7fffffff);
  }
}

}  // namespace

void GenericPairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream) {
  WithKind(kind, [&]<ElementKind kKind>() {
    using Stored = typename Element<kKind>::Stored;
    PairScoresKernel<kKind><<<BlocksFor(num_positives, kWarps * 32), kWarps * 32, 0, stream>>>(
        task, num_positives, static_cast<const Stored*>(task.queries.data),
        static_cast<const Stored*>(task.embeddings.data));
  });
  CheckLaunch("launching PairScoresKernel");
}

}  // namespace hybatch::ranking::cuda
