// Logits as in the forward pass, but what is made of them is written down: rounded, and through shared memory, so that
// 64 neighbouring bytes of a row are written at a time.

#include "hopper_weights.cuh"

#include "common/cuda/runtime.h"
#include "hopper_logits.cuh"
#include "hopper_operands.cuh"

namespace hybatch::contrastive::cuda {
namespace {

constexpr int kRowsOfWarp = 16;

struct SharedMemory {
  sm90::Stages stages;
  alignas(16) unsigned char parts[sm90::kConsumers / 32][kRowsOfWarp * kPartRowBytes];
  LineShare columns[sm90::kConsumerGroups][2][sm90::kTileColumns];
  TileKeys keys;
  sm90::StageBarriers barriers;
};

struct Upstream {
  const float* row_lse;
  const float* grad_row_lse;
  const float* grad_positive;
  const float* column_lse;  // null: no column term
  const float* grad_column_lse;
  const uint32_t* largest;
};

struct WeightTask {
  LogitsPart part;
  Upstream upstream;
  WeightSlab slab;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <ElementKind kKind>
__device__ uint32_t RoundedPair(float first, float second) {
  uint32_t pair;
  if constexpr (kKind == ElementKind::kBFloat16) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  }
  return pair;
}

// What a thread knows of its two rows, the factor included.
struct RowWeights {
  LineShare share[2];
  float positive[2];
};

__device__ RowWeights LoadRows(const Upstream& upstream, int64_t first_query, const Row (&rows)[2], float factor) {
  RowWeights weights;
  for (int row = 0; row < 2; ++row) {
    const int64_t q = first_query + (rows[row].exists() ? rows[row].row : 0);
    weights.share[row] = MakeShare(upstream.row_lse[q], upstream.grad_row_lse[q] * factor);
    weights.positive[row] = upstream.grad_positive[q] * factor;
  }
  return weights;
}

__device__ void BringColumns(const Upstream& upstream, int32_t first_column, int64_t num_candidates, int thread,
                             float factor, LineShare* columns) {
#pragma unroll
  for (int column = thread; column < sm90::kTileColumns; column += sm90::kWarpgroup) {
    const int64_t d = int64_t{first_column} + column;
    columns[column] = d < num_candidates
                          ? MakeShare(upstream.column_lse[d], upstream.grad_column_lse[d] * factor)
                          : LineShare{INFINITY, 0.0f};
  }
}

// Where the warp's weights of a tile go.
struct WarpTarget {
  uint16_t* weights;     // of the warp's first row and the tile's first column
  int64_t stride;
  int32_t num_rows;      // of the warp's 16
  int32_t num_columns;   // up to the stride, of the tile's 256
};

// 16 rows and 32 columns, from the warp's part of shared memory.
__device__ void CopyPart(const unsigned char* part_bytes, int part, const WarpTarget& target) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int column = part * sm90::kPartColumns + lane % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = half * 8 + lane / 4;
    const uint4 piece = *reinterpret_cast<const uint4*>(part_bytes + PartByte(row, lane % 4 * 8));
    if (row >= target.num_rows || column >= target.num_columns) continue;
    *reinterpret_cast<uint4*>(target.weights + row * target.stride + column) = piece;
  }
}

// kPositive: a positive of one of the warp's rows may be in the tile.
template <ElementKind kKind, bool kColumns, bool kPositive>
__device__ void WriteTile(const sm90::Accumulator& logits, const Row (&rows)[2], const RowWeights& of_rows,
                          const LineShare* columns,
                          int32_t first_column, int thread, unsigned char* part_bytes, const WarpTarget& target) {
  unsigned char* to = part_bytes + PartByte(thread % 32 / 4, thread % 4 * 2);  // the rest is known to the compiler
#pragma unroll
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
#pragma unroll
    for (int i = part * sm90::kPart; i < (part + 1) * sm90::kPart; i += 4) {
      const int column = sm90::AccumulatorColumn(thread, i);
      float4 shares = {INFINITY, 0.0f, INFINITY, 0.0f};
      if constexpr (kColumns) shares = *reinterpret_cast<const float4*>(columns + column);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        float weights[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float logit = logits[i + row * 2 + k];
          weights[k] = WeightFrom(of_rows.share[row], logit);
          if constexpr (kColumns) {
            weights[k] += WeightFrom(k == 0 ? LineShare{shares.x, shares.y} : LineShare{shares.z, shares.w}, logit);
          }
          if (kPositive && rows[row].IsPositive(first_column, column + k)) weights[k] += of_rows.positive[row];
        }
        *reinterpret_cast<uint32_t*>(to + PartByte(row * 8, i % sm90::kPart / 4 * 8)) =
            RoundedPair<kKind>(weights[0], weights[1]);
      }
    }
    __syncwarp();
    CopyPart(part_bytes, part, target);
    __syncwarp();
  }
}

template <bool kColumns, class Work>
__device__ void WriteTiles(const WeightTask& task, sm90::Consumer<Work>& consumer, SharedMemory& shared) {
  constexpr ElementKind kKind = Work::kKind;
  const LogitsPart& part = task.part;
  const Upstream& upstream = task.upstream;
  const WeightSlab& slab = task.slab;
  const int group = consumer.group, thread = consumer.thread;
  const auto block = static_cast<int32_t>(blockIdx.x);
  const Range row_tiles = part.shares.RowTiles(block), column_tiles = part.shares.ColumnTiles(block);
  const float scale = *part.inputs.scale;
  const float factor = WeightFactor(FloatFromBits(*upstream.largest));
  int turn = 0;
  for (int32_t row_tile = row_tiles.first; row_tile < row_tiles.end; ++row_tile) {
    const int64_t first_row = int64_t{row_tile} * sm90::kTileRows + group * sm90::kInstructionRows;
    const Row rows[2] = {RowAt(part, first_row + sm90::AccumulatorRow(thread, 0)),
                         RowAt(part, first_row + sm90::AccumulatorRow(thread, 2))};
    const RowWeights weights = LoadRows(upstream, part.first_query, rows, factor);
    const int64_t warp_row = first_row + thread / 32 * kRowsOfWarp;
    const auto num_rows = static_cast<int32_t>(min(int64_t{kRowsOfWarp}, slab.num_queries - warp_row));
    for (int32_t column_tile = column_tiles.first; column_tile < column_tiles.end; ++column_tile, turn ^= 1) {
      const int32_t first_column = column_tile * sm90::kTileColumns;
      uint32_t* keys = shared.keys.keys[group][turn];
      LineShare* columns = shared.columns[group][turn];
      bool irregular = BringKeys(part.inputs, first_column, thread, keys);
      if constexpr (kColumns) {
        BringColumns(upstream, first_column, part.inputs.candidates.rows, thread, factor, columns);
      }
      sm90::Accumulator logits;
      consumer.MultiplyTile(part.num_slabs, logits);
      irregular = sm90::GroupBarrierAny(group, irregular);
      FormLogits(logits, part, scale, first_column, thread, rows, keys, irregular);
      const auto num_columns = static_cast<int32_t>(min(int64_t{sm90::kTileColumns}, slab.stride - first_column));
      const WarpTarget target = {static_cast<uint16_t*>(slab.weights) + warp_row * slab.stride + first_column,
                                 slab.stride, num_rows, num_columns};
      unsigned char* part_bytes = shared.parts[group * (sm90::kWarpgroup / 32) + thread / 32];
      const bool positives = rows[0].HasPositiveIn(first_column) || rows[1].HasPositiveIn(first_column);
      if (__any_sync(kFullWarp, positives)) {
        WriteTile<kKind, kColumns, true>(logits, rows, weights, columns, first_column, thread, part_bytes, target);
      } else {
        WriteTile<kKind, kColumns, false>(logits, rows, weights, columns, first_column, thread, part_bytes, target);
      }
    }
  }
}

#endif

template <ElementKind kElements, bool kColumns>
struct WeightWork : LogitsWork<kElements> {
  static constexpr char kName[] = "HopperWeightsKernel";
  using Task = WeightTask;
  using Shared = SharedMemory;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __device__ static void Consume(const Task& task, sm90::Consumer<WeightWork>& consumer, Shared& shared) {
    WriteTiles<kColumns>(task, consumer, shared);
  }
#endif
};

// A maximum of integers is the same in any order.
__global__ void FindLargest(const float* values, int64_t count, uint32_t* largest) {
  uint32_t found = 0;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    found = max(found, BitsOfFloat(values[i]) & 0x7fffffffu);
  }
  found = __reduce_max_sync(0xffffffffu, found);
  if (threadIdx.x % 32 == 0) atomicMax(largest, found);
}

void AddToLargest(const float* values, int64_t count, uint32_t* largest, cudaStream_t stream) {
  FindLargest<<<BlocksFor(count, 256, 256), 256, 0, stream>>>(values, count, largest);
  CheckLaunch("launching FindLargest");
}

}  // namespace

void FindLargestUpstream(const BackwardTask& task, uint32_t* largest, cudaStream_t stream) {
  Check(cudaMemsetAsync(largest, 0, sizeof(*largest), stream), "clearing the largest upstream gradient");
  AddToLargest(task.grad_row_lse, task.inputs.queries.rows, largest, stream);
  AddToLargest(task.grad_positive, task.inputs.queries.rows, largest, stream);
  if (task.column_lse != nullptr) AddToLargest(task.grad_column_lse, task.inputs.candidates.rows, largest, stream);
}

void HopperWeights(const BackwardTask& task, const WeightSlab& slab, const uint32_t* largest,
                   const DeviceTraits& device, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const int64_t num_candidates = inputs.candidates.rows;
  const LogitsPart part = {inputs, slab.first_query, slab.num_queries,
                           DealTiles(slab.num_queries, num_candidates, device.multiprocessors),
                           Pieces(inputs.queries.width, kTermsOfSlab)};
  const Upstream upstream = {task.row_lse,    task.grad_row_lse,    task.grad_positive,
                             task.column_lse, task.grad_column_lse, largest};
  With16Bits(inputs.queries.type, [&]<ElementKind kKind>() {
    const CUtensorMap queries = MapRows(inputs.queries, kKind, slab.first_query, slab.num_queries, sm90::kTileRows);
    const CUtensorMap candidates = MapRows(inputs.candidates, kKind, 0, num_candidates, sm90::kTileColumns);
    const WeightTask weights = {part, upstream, slab};
    if (task.column_lse != nullptr) {
      sm90::LaunchTiles<WeightWork<kKind, true>>(part.shares.NumBlocks(), queries, candidates, weights, stream);
    } else {
      sm90::LaunchTiles<WeightWork<kKind, false>>(part.shares.NumBlocks(), queries, candidates, weights, stream);
    }
  });
}

}  // namespace hybatch::contrastive::cuda
