#include "scale_gradient.cuh"

#include "common/cuda/elements.h"
#include "common/cuda/runtime.h"

namespace hybatch::contrastive::cuda {
namespace {

constexpr int kThreads = 256;

// terms[q] = <queries[q], grad_queries[q]>, a warp per query.
template <ElementKind kKind>
__global__ void RowProducts(const typename Element<kKind>::Stored* queries, const float* gradients, int64_t num_queries,
                            int64_t width, double* terms) {
  const int64_t warps = static_cast<int64_t>(gridDim.x) * blockDim.x / 32;
  for (int64_t q = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32; q < num_queries; q += warps) {
    double sum = 0;
    for (int64_t h = threadIdx.x % 32; h < width; h += 32) {
      sum += static_cast<double>(Element<kKind>::Value(queries[q * width + h])) * gradients[q * width + h];
    }
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % 32 == 0) terms[q] = sum;
  }
}

// One thread block: the order of the sum is fixed.
__global__ void SumScaleTerms(const double* terms, int64_t count, const float* scale, float* grad_scale) {
  __shared__ double sums[kThreads];
  double sum = 0;
  for (int64_t q = threadIdx.x; q < count; q += kThreads) sum += terms[q];
  sums[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) *grad_scale = static_cast<float>(sums[0] / *scale);
}

}  // namespace

void ScaleGradient(const LossInputs& inputs, const Gradients& gradients, double* terms, cudaStream_t stream) {
  const int64_t queries = inputs.queries.rows, width = inputs.queries.width;
  const ElementKind kind = StoredKind(inputs.queries.type);
  WithKind(kind, [&]<ElementKind kKind>() {
    const auto* rows = static_cast<const typename Element<kKind>::Stored*>(inputs.queries.data);
    RowProducts<kKind><<<BlocksFor(queries, 8), kThreads, 0, stream>>>(rows, gradients.queries, queries, width, terms);
  });
  CheckLaunch("launching RowProducts");
  SumScaleTerms<<<1, kThreads, 0, stream>>>(terms, queries, inputs.scale, gradients.scale);
  CheckLaunch("launching SumScaleTerms");
}

}  // namespace hybatch::contrastive::cuda
