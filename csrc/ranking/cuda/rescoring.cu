#include "rescoring.cuh"

#include <algorithm>

#include "pair_chain.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

// The queue holds every positive once, and beyond them this share of all pairs: many more would take the pair by pair
// kernel longer than the tiles of the fp32 kernel take for all.
constexpr int64_t kPairsPerPlace = 32;
constexpr int64_t kMostPlaces = int64_t{1} << 24;  // likewise beyond the positives; 128 MiB

__device__ double WarpSum(double value) {
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}

__device__ void RaiseTo(float* largest, float value) {  // neither is negative: they compare as their bits do
  atomicMax(reinterpret_cast<int*>(largest), __float_as_int(value));
}

// A warp per row, which is given as kGiven and enters the tensor cores as kRounded. Rows share the size of their tile.
template <ElementKind kGiven, ElementKind kRounded>
__global__ void MeasureRows(const typename Element<kGiven>::Stored* data, int64_t rows, int64_t width, int tile_size,
                            RowSize* sizes) {
  const int lane = threadIdx.x % 32;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; row < rows; row += stride) {
    double given = 0, rounded = 0, difference = 0;
#pragma unroll 4
    for (int64_t h = lane; h < width; h += 32) {
      const auto bits = data[row * width + h];
      const double value = Element<kGiven>::Value(bits);
      given += value * value;
      if constexpr (kGiven != kRounded) {
        const double nearest = Element<kRounded>::Value(Element<kRounded>::Rounded(bits));
        rounded += nearest * nearest;
        difference += (nearest - value) * (nearest - value);
      }
    }
    const RowSize size = RowSizeOf(WarpSum(given), WarpSum(rounded), WarpSum(difference));
    if (lane == 0) {
      RaiseTo(&sizes[row / tile_size].norm, size.norm);
      RaiseTo(&sizes[row / tile_size].residual, size.residual);
    }
  }
}

void Measure(const Matrix& matrix, ElementKind kind, int tile_size, RowSize* sizes, cudaStream_t stream) {
  const int64_t count = (matrix.rows + tile_size - 1) / tile_size;
  Check(cudaMemsetAsync(sizes, 0, count * sizeof(RowSize), stream), "clearing the sizes of rows");
  WithTensorCoreKind(matrix.type, kind, [&]<ElementKind kGiven, ElementKind kRounded>() {
    MeasureRows<kGiven, kRounded><<<BlocksFor(matrix.rows, kWarps, 8192), kThreads, 0, stream>>>(
        static_cast<const typename Element<kGiven>::Stored*>(matrix.data), matrix.rows, matrix.width, tile_size,
        sizes);
  });
  CheckLaunch("launching MeasureRows");
}

template <ElementKind kKind>
__global__ void __launch_bounds__(kPairWarps * 32)
    CountQueuedPairsKernel(const typename Element<kKind>::Stored* queries,
                           const typename Element<kKind>::Stored* candidates, int64_t width, CountTables tables,
                           RescoringQueue queue, int64_t* status) {
  __shared__ PairSlabs slabs;
  if (queue.Overflowed()) return;
  const auto length = static_cast<int64_t>(*queue.length);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kPairWarps * 32;
  int32_t self_hits = 0;
  for (int64_t start = (static_cast<int64_t>(blockIdx.x) * kPairWarps + warp) * 32; start < length; start += stride) {
    const bool there = start + lane < length;
    const QueuedPair pair = there ? queue.pairs[start + lane] : QueuedPair{-1, -1};
    const float score = ScorePairs<kKind>(queries, candidates, width, pair.query, pair.row, slabs);
    if (there) CountQueued(score, pair, tables, self_hits);
    __syncwarp();
  }
  AddSelfHits(self_hits, status);
}

__global__ void ClearIfOverflowed(int32_t* counters, int64_t count, RescoringQueue queue) {
  if (!queue.Overflowed()) return;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride) counters[i] = 0;
}

}  // namespace

Rescoring CarveRescoring(const CountAboveTask& task, int64_t num_positives, int tile_size, Carver& carver) {
  const int64_t pairs = task.queries.rows * task.candidates.rows;
  Rescoring rescoring;
  rescoring.terms = BandTermsOf(task.queries.width);
  rescoring.queue.capacity = std::min(pairs, num_positives + std::min(pairs / kPairsPerPlace, kMostPlaces));
  rescoring.queue.length = carver.Take<unsigned long long>(1);
  rescoring.queue.pairs = carver.Take<QueuedPair>(rescoring.queue.capacity);
  rescoring.queries = carver.Take<RowSize>(task.queries.rows);
  rescoring.tiles = carver.Take<RowSize>((task.candidates.rows + tile_size - 1) / tile_size);
  return rescoring;
}

void PrepareRescoring(const CountAboveTask& task, ElementKind kind, int tile_size, const Rescoring& rescoring,
                      cudaStream_t stream) {
  Check(cudaMemsetAsync(rescoring.queue.length, 0, sizeof(*rescoring.queue.length), stream), "emptying the queue");
  Measure(task.queries, kind, 1, rescoring.queries, stream);
  Measure(task.candidates, kind, tile_size, rescoring.tiles, stream);
}

void CountQueuedPairs(const CountAboveTask& task, int64_t num_positives, const SortedThresholds& sorted,
                      const RescoringQueue& queue, const DeviceTraits& device, cudaStream_t stream) {
  const CountTables tables = TablesOf(task, sorted);
  const unsigned blocks = BlocksFor(queue.capacity, kPairWarps * 32, int64_t{8} * device.multiprocessors);
  WithKind(KindOf(task.queries.type, Precision::kExact), [&]<ElementKind kKind>() {
    using Stored = typename Element<kKind>::Stored;
    CountQueuedPairsKernel<kKind><<<blocks, kPairWarps * 32, 0, stream>>>(
        static_cast<const Stored*>(task.queries.data), static_cast<const Stored*>(task.candidates.data),
        task.queries.width, tables, queue, task.status);
  });
  CheckLaunch("launching CountQueuedPairsKernel");
  const int64_t counters = num_positives * task.num_groups;
  ClearIfOverflowed<<<BlocksFor(counters, kThreads, 4096), kThreads, 0, stream>>>(sorted.beaten, counters, queue);
  CheckLaunch("launching ClearIfOverflowed");
}

}  // namespace hybatch::ranking::cuda
