// Log-sum-exps: a thread block takes 128 lines and a share of the tiles of the other side, keeps what each line's sum
// is so far in registers, and writes one partial sum per line and share. Columns are the same with the sides swapped.

#include <algorithm>

#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "join_sums.cuh"
#include "logits.cuh"
#include "product.cuh"

namespace hybatch::contrastive::cuda {
namespace {

// With kColumns the lines are candidates and the other side queries.
template <ElementKind kKind, bool kColumns>
__global__ void __launch_bounds__(kThreads)
    PartialSums(LossInputs inputs, float* positive_logit, ExponentialSum* partial) {
  __shared__ SharedTiles shared;
  using Stored = typename Element<kKind>::Stored;
  const int64_t width = inputs.queries.width;
  const RowsOf<kKind> queries = {static_cast<const Stored*>(inputs.queries.data), width};
  const RowsOf<kKind> candidates = {static_cast<const Stored*>(inputs.candidates.data), width};
  const int64_t num_lines = kColumns ? inputs.candidates.rows : inputs.queries.rows;
  const int64_t num_others = kColumns ? inputs.queries.rows : inputs.candidates.rows;
  const int64_t first_line = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t tiles = Tiles(num_others), end_tile = FirstTileOfShare(tiles, blockIdx.y + 1);
  const float scale = *inputs.scale;
  ExponentialSum sums[kPerThread];
  for (int i = 0; i < kPerThread; ++i) sums[i] = Nothing();
  for (int64_t tile = FirstTileOfShare(tiles, blockIdx.y); tile < end_tile; ++tile) {
    Results results;
    MultiplyTile(kColumns ? candidates : queries, first_line, num_lines, kColumns ? queries : candidates,
                 tile * kTile, num_others, width, shared, results);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int64_t line = first_line + RowInTile(i);
      float maximum = -INFINITY;
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t other = tile * kTile + ColumnInTile(j);
        const int64_t q = kColumns ? other : line, d = kColumns ? line : other;
        bool part = line < num_lines && other < num_others;
        if (part) part = TakesPart(inputs, q, d);
        results[i][j] = part ? results[i][j] * scale : -INFINITY;
        if (!kColumns && part && d == inputs.positive_index[q]) positive_logit[q] = results[i][j];
        maximum = results[i][j] > maximum ? results[i][j] : maximum;
      }
      ExponentialSum sum = {maximum, 0.0f};
      const float base = maximum == -INFINITY ? 0.0f : maximum;
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) sum.sum += expf(results[i][j] - base);
      sums[i] = Join(sums[i], sum);
    }
  }
  // The 16 threads of a row are neighbours.
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    for (int distance = 8; distance > 0; distance /= 2) {
      const ExponentialSum other = {__shfl_down_sync(0xffffffffu, sums[i].maximum, distance, 16),
                                    __shfl_down_sync(0xffffffffu, sums[i].sum, distance, 16)};
      sums[i] = Join(sums[i], other);
    }
    const int64_t line = first_line + RowInTile(i);
    if (threadIdx.x % 16 == 0 && line < num_lines) partial[blockIdx.y * num_lines + line] = sums[i];
  }
}

template <ElementKind kKind, bool kColumns>
void LaunchSums(const LossInputs& inputs, float* positive_logit, ExponentialSum* partial, float* lse,
                cudaStream_t stream) {
  const int64_t lines = kColumns ? inputs.candidates.rows : inputs.queries.rows;
  if (lines == 0) return;
  const dim3 grid(static_cast<unsigned>(Tiles(lines)), kShares);
  PartialSums<kKind, kColumns><<<grid, kThreads, 0, stream>>>(inputs, positive_logit, partial);
  CheckLaunch("launching PartialSums");
  JoinSums(partial, kShares, lines, lse, stream);
}

}  // namespace

size_t GenericForwardWorkspace(const LossInputs& inputs, bool columns) {
  const int64_t lines = columns ? std::max(inputs.queries.rows, inputs.candidates.rows) : inputs.queries.rows;
  return static_cast<size_t>(kShares * lines) * sizeof(ExponentialSum);
}

void GenericForward(const ForwardTask& task, void* workspace, cudaStream_t stream) {
  auto* partial = static_cast<ExponentialSum*>(workspace);
  if (task.inputs.queries.rows > 0) {
    const size_t bytes = static_cast<size_t>(task.inputs.queries.rows) * sizeof(float);
    Check(cudaMemsetAsync(task.positive_logit, 0, bytes, stream), "clearing the positives' logits");
  }
  const ElementKind kind = StoredKind(task.inputs.queries.type);
  WithKind(kind, [&]<ElementKind kKind>() {
    LaunchSums<kKind, false>(task.inputs, task.positive_logit, partial, task.row_lse, stream);
    if (task.column_lse == nullptr) return;
    LaunchSums<kKind, true>(task.inputs, nullptr, partial, task.column_lse, stream);
  });
}

}  // namespace hybatch::contrastive::cuda
