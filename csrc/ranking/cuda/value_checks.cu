#include "runtime.h"
#include "value_checks.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kWarps = 8;

__device__ double WarpSum(double value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// A warp per row.
template <ElementKind kKind>
__global__ void CheckRows(const typename Element<kKind>::Stored* data, int64_t rows, int64_t width,
                          unsigned long long* norm, unsigned long long* not_finite) {
  const int lane = threadIdx.x % 32;
  double largest = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; row < rows; row += stride) {
    double sum = 0;
#pragma unroll 4
    for (int64_t h = lane; h < width; h += 32) {
      const double value = Element<kKind>::Value(data[row * width + h]);
      sum += value * value;  // doubles hold the square of any float, so that only NaN and infinity are not finite
    }
    sum = WarpSum(sum);
    if (isfinite(sum)) {
      largest = fmax(largest, sum);
    } else if (lane == 0) {
      atomicAdd(not_finite, 1ull);
    }
  }
  if (lane == 0 && largest > 0) atomicMax(norm, static_cast<unsigned long long>(__double_as_longlong(largest)));
}

__global__ void CheckNorms(const unsigned long long* norms, unsigned long long* overflowed) {
  const double product = __longlong_as_double(static_cast<long long>(norms[kQueryNorm])) *
                         __longlong_as_double(static_cast<long long>(norms[kCandidateNorm]));
  if (product >= 0x1p252) atomicAdd(overflowed, 1ull);
}

}  // namespace

void CheckValues(const Values& values, NormSlot slot, unsigned long long* norms, int64_t* status,
                 cudaStream_t stream) {
  if (values.rows == 0 || values.width == 0) return;
  auto* flag = reinterpret_cast<unsigned long long*>(
      status + (slot == kQueryNorm ? kQueriesNotFinite : kCandidatesNotFinite));
  WithKind(values.kind, [&]<ElementKind kKind>() {
    const auto* data = static_cast<const typename Element<kKind>::Stored*>(values.data);
    CheckRows<kKind><<<BlocksFor(values.rows, kWarps, 8192), kWarps * 32, 0, stream>>>(
        data, values.rows, values.width, norms + slot, flag);
  });
  CheckLaunch("launching CheckRows");
}

void CheckOverflow(const unsigned long long* norms, int64_t* status, cudaStream_t stream) {
  CheckNorms<<<1, 1, 0, stream>>>(norms, reinterpret_cast<unsigned long long*>(status + kScoresOverflowed));
  CheckLaunch("launching CheckNorms");
}

}  // namespace hybatch::ranking::cuda
