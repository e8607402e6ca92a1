// Rows of the result are queries or candidates, columns are elements of an embedding, terms are candidates or queries.
// The embeddings lie with their elements side by side, which are lines here, not terms; so do the weights if they are
// those of candidates.

#include "hopper_products.cuh"

#include "common/cuda/hopper/kernel.cuh"
#include "common/cuda/runtime.h"
#include "hopper_arithmetic.h"
#include "hopper_operands.cuh"

namespace hybatch::contrastive::cuda {
namespace {

using sm90::Major;

struct SharedMemory {
  sm90::Stages stages;
  sm90::StageBarriers barriers;
};

struct Product {
  ProductItems items;
  int64_t num_rows;
  int64_t num_columns;  // even
  const float* scale;
  const uint32_t* largest;
  float* to;  // [splits, num_rows, num_columns]
  bool adds;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A warpgroup's share of a tile of the result.
struct Target {
  float* first;  // its first row and column
  int64_t stride;
  int32_t num_rows;
  int32_t num_columns;
};

__device__ Target TargetOf(const Product& product, int64_t item, int group) {
  const int64_t row = int64_t{product.items.RowTile(item)} * sm90::kTileRows + group * sm90::kInstructionRows;
  const int64_t column = int64_t{product.items.ColumnTile(item)} * sm90::kTileColumns;
  float* split = product.to + product.items.Split(item) * product.num_rows * product.num_columns;
  return {split + row * product.num_columns + column, product.num_columns,
          static_cast<int32_t>(min(int64_t{sm90::kInstructionRows}, product.num_rows - row)),
          static_cast<int32_t>(min(int64_t{sm90::kTileColumns}, product.num_columns - column))};
}

// What will be added to comes nearer while the product is formed.
__device__ void Prefetch(const Target& target, int thread) {
  constexpr int kLine = 32;  // floats of 128 bytes
  for (int i = thread; i < sm90::kInstructionRows * sm90::kTileColumns / kLine; i += sm90::kWarpgroup) {
    const int row = i / (sm90::kTileColumns / kLine), column = i % (sm90::kTileColumns / kLine) * kLine;
    if (row >= target.num_rows || column >= target.num_columns) continue;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(target.first + row * target.stride + column));
  }
}

__device__ void Write(const sm90::Accumulator& results, float multiplier, bool adds, int thread,
                      const Target& target) {
  constexpr int kBatch = 32;  // accumulators whose places are read before the first of them is written
#pragma unroll
  for (int first = 0; first < sm90::kAccumulators; first += kBatch) {
    float2 before[kBatch / 2];
#pragma unroll
    for (int i = 0; i < kBatch; i += 2) {
      const int row = sm90::AccumulatorRow(thread, first + i), column = sm90::AccumulatorColumn(thread, first + i);
      const bool inside = row < target.num_rows && column < target.num_columns;
      before[i / 2] = {0.0f, 0.0f};
      if (adds && inside) before[i / 2] = *reinterpret_cast<float2*>(target.first + row * target.stride + column);
    }
#pragma unroll
    for (int i = 0; i < kBatch; i += 2) {
      const int row = sm90::AccumulatorRow(thread, first + i), column = sm90::AccumulatorColumn(thread, first + i);
      if (row >= target.num_rows || column >= target.num_columns) continue;
      const float2 after = {before[i / 2].x + results[first + i] * multiplier,
                            before[i / 2].y + results[first + i + 1] * multiplier};
      *reinterpret_cast<float2*>(target.first + row * target.stride + column) = after;
    }
  }
}

template <class Work>
__device__ void FormItems(const Product& product, sm90::Consumer<Work>& consumer) {
  const float multiplier = *product.scale / WeightFactor(FloatFromBits(*product.largest));
  for (int64_t item = blockIdx.x; item < product.items.NumItems(); item += gridDim.x) {
    const Range slabs = product.items.Slabs(item);
    const Target target = TargetOf(product, item, consumer.group);
    if (product.adds) Prefetch(target, consumer.thread);
    sm90::Accumulator results;
    consumer.MultiplyTile(slabs.end - slabs.first, results);
    Write(results, multiplier, product.adds, consumer.thread, target);
    __syncwarp();
  }
}

#endif

template <ElementKind kElements, Major kLeftOperand>
struct ProductWork : sm90::Operands<kElements, kLeftOperand, Major::kLines> {
  static constexpr char kName[] = "HopperProductKernel";
  using Task = Product;
  using Shared = SharedMemory;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  template <class Visit>
  __device__ static void ForEachTile(const Task& task, Visit visit) {
    const ProductItems& items = task.items;
    for (int64_t item = blockIdx.x; item < items.NumItems(); item += gridDim.x) {
      const Range slabs = items.Slabs(item);
      visit(sm90::TileSlabs{items.RowTile(item), items.ColumnTile(item), slabs.first, slabs.end});
    }
  }

  __device__ static void Consume(const Task& task, sm90::Consumer<ProductWork>& consumer, Shared&) {
    FormItems(task, consumer);
  }
#endif
};

// Splits in ascending order.
__global__ void SumSplits(const float* partial, int64_t count, int32_t num_splits, float* to) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    float sum = partial[i];
    for (int32_t split = 1; split < num_splits; ++split) sum += partial[split * count + i];
    to[i] = sum;
  }
}

template <Major kLeft>
void Launch(const LossInputs& inputs, const WeightSlab& slab, const Matrix& right, int64_t first_right,
            int64_t num_right, const Product& product, const DeviceTraits& device, cudaStream_t stream) {
  With16Bits(right.type, [&]<ElementKind kKind>() {
    constexpr int kBoxRows = kLeft == Major::kTerms ? sm90::kTileRows : sm90::kTermsOfSlab;
    const CUtensorMap weights = sm90::RowsMap(slab.weights, kKind, inputs.candidates.rows, slab.num_queries,
                                              2 * slab.stride, kBoxRows);
    const CUtensorMap embeddings = MapRows(right, kKind, first_right, num_right, sm90::kTermsOfSlab);
    const unsigned blocks = BlocksFor(product.items.NumItems(), 1, device.multiprocessors);
    sm90::LaunchTiles<ProductWork<kKind, kLeft>>(blocks, weights, embeddings, product, stream);
  });
}

}  // namespace

ProductItems QueryProduct(const LossInputs& inputs, int64_t num_queries, const DeviceTraits& device) {
  return SplitProduct(num_queries, inputs.queries.width, inputs.candidates.rows, kMostSplits, device.multiprocessors);
}

int64_t PartialElements(const LossInputs& inputs, int64_t num_queries, const DeviceTraits& device) {
  const int32_t splits = QueryProduct(inputs, num_queries, device).num_splits;
  return splits == 1 ? 0 : splits * num_queries * inputs.queries.width;
}

void HopperQueryGradients(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest, float* partial,
                          const DeviceTraits& device, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const int64_t width = inputs.queries.width, count = slab.num_queries * width;
  float* gradients = task.gradients.queries + slab.first_query * width;
  const ProductItems items = QueryProduct(inputs, slab.num_queries, device);
  const bool whole = items.num_splits == 1;
  const Product product = {items, slab.num_queries, width, inputs.scale, largest, whole ? gradients : partial, false};
  Launch<Major::kTerms>(inputs, slab, inputs.candidates, 0, inputs.candidates.rows, product, device, stream);
  if (whole) return;
  SumSplits<<<BlocksFor(count, 256), 256, 0, stream>>>(partial, count, items.num_splits, gradients);
  CheckLaunch("launching SumSplits");
}

void HopperCandidateGradients(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest,
                              const DeviceTraits& device, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const int64_t num_candidates = inputs.candidates.rows, width = inputs.queries.width;
  const ProductItems items = SplitProduct(num_candidates, width, slab.num_queries, 1, device.multiprocessors);
  const Product product = {items,   num_candidates,           width,                inputs.scale,
                           largest, task.gradients.candidates, slab.first_query > 0};
  Launch<Major::kLines>(inputs, slab, inputs.queries, slab.first_query, slab.num_queries, product, device, stream);
}

}  // namespace hybatch::contrastive::cuda
