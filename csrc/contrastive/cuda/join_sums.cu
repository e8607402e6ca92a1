#include "join_sums.cuh"

#include "common/cuda/runtime.h"

namespace hybatch::contrastive::cuda {
namespace {

__global__ void JoinSumsKernel(const ExponentialSum* partial, int64_t num_shares, int64_t num_lines, float* lse) {
  for (int64_t line = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; line < num_lines;
       line += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    ExponentialSum sum = Nothing();
    for (int64_t share = 0; share < num_shares; ++share) sum = Join(sum, partial[share * num_lines + line]);
    lse[line] = LogSumExp(sum);
  }
}

}  // namespace

void JoinSums(const ExponentialSum* partial, int64_t num_shares, int64_t num_lines, float* lse, cudaStream_t stream) {
  if (num_lines == 0) return;
  JoinSumsKernel<<<BlocksFor(num_lines, 256), 256, 0, stream>>>(partial, num_shares, num_lines, lse);
  CheckLaunch("launching JoinSumsKernel");
}

}  // namespace hybatch::contrastive::cuda
