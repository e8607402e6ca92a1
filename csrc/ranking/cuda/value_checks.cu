#include "common/cuda/runtime.h"
#include "value_checks.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kWarps = 8;

__device__ double WarpSum(double value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

// This lane's part of a row's sum of squares. Doubles hold the square of any float: the sum is finite if and only if
// all elements are.
template <ElementKind kKind>
__device__ double SumOfSquares(const typename Element<kKind>::Stored* row, int64_t width, int lane) {
  double sum = 0;
#pragma unroll 4
  for (int64_t h = lane; h < width; h += 32) {
    const double value = Element<kKind>::Value(row[h]);
    sum += value * value;
  }
  return sum;
}

// The same for rows that consist of aligned pieces of 16 bytes.
template <ElementKind kKind>
__device__ double SumOfSquaresAligned(const typename Element<kKind>::Stored* row, int64_t width, int lane) {
  using Stored = typename Element<kKind>::Stored;
  constexpr int kCount = 16 / sizeof(Stored);
  double sum = 0;
#pragma unroll 2
  for (int64_t h = lane * kCount; h < width; h += 32 * kCount) {
    const uint4 piece = *reinterpret_cast<const uint4*>(row + h);
    const uint32_t words[] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const auto bits = static_cast<Stored>(sizeof(Stored) == 4 ? words[e] : words[e / 2] >> (e % 2 * 16));
      const double value = Element<kKind>::Value(bits);
      sum += value * value;
    }
  }
  return sum;
}

// A warp per row.
template <ElementKind kKind>
__global__ void CheckRows(const typename Element<kKind>::Stored* data, int64_t rows, int64_t width, bool aligned,
                          unsigned long long* norm, unsigned long long* not_finite) {
  const int lane = threadIdx.x % 32;
  double largest = 0;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; row < rows; row += stride) {
    const auto* elements = data + row * width;
    const double sum = WarpSum(aligned ? SumOfSquaresAligned<kKind>(elements, width, lane)
                                       : SumOfSquares<kKind>(elements, width, lane));
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
    using Stored = typename Element<kKind>::Stored;
    const auto* data = static_cast<const Stored*>(values.data);
    const bool aligned = reinterpret_cast<uintptr_t>(data) % 16 == 0 && values.width * sizeof(Stored) % 16 == 0;
    CheckRows<kKind><<<BlocksFor(values.rows, kWarps, 8192), kWarps * 32, 0, stream>>>(
        data, values.rows, values.width, aligned, norms + slot, flag);
  });
  CheckLaunch("launching CheckRows");
}

void CheckOverflow(const unsigned long long* norms, int64_t* status, cudaStream_t stream) {
  CheckNorms<<<1, 1, 0, stream>>>(norms, reinterpret_cast<unsigned long long*>(status + kScoresOverflowed));
  CheckLaunch("launching CheckNorms");
}

}  // namespace hybatch::ranking::cuda
