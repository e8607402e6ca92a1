// Log-sum-exps in one pass over the logits. A thread block keeps its rows' sums in registers while it goes along its
// column tiles, and its columns' sums in a part of the workspace that no other block touches.

#include "common/cuda/runtime.h"
#include "hopper.cuh"
#include "hopper_logits.cuh"
#include "hopper_operands.cuh"
#include "join_sums.cuh"

namespace hybatch::contrastive::cuda {
namespace {

constexpr int kWarpsOfGroup = sm90::kWarpgroup / 32;

struct SharedMemory {
  sm90::Stages stages;
  ExponentialSum column_sums[sm90::kConsumerGroups][kWarpsOfGroup][sm90::kTileColumns];
  TileKeys keys;
  sm90::StageBarriers barriers;
};

struct Partials {
  ExponentialSum* rows;     // [column shares, queries]
  ExponentialSum* columns;  // [row shares, 2 warpgroups, candidates], or null: not wanted
};

struct SumTask {
  LogitsPart part;
  Partials partials;
  float* positive_logit;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// What the lanes that hold the same columns have of them, reduced: see KeepsUpperHalf.
template <class Combine>
__device__ float ReduceColumns(float (&values)[8], Combine combine) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 4; half > 0; half /= 2) {
    const bool upper = KeepsUpperHalf(lane, half);
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float sent = upper ? values[i] : values[half + i];
      const float received = __shfl_xor_sync(kFullWarp, sent, 4 * half);
      values[i] = combine(upper ? values[half + i] : values[i], received);
    }
  }
  return values[0];
}

// The columns of a part over the warp's 16 rows, relative to their own largest logits; the sum is that of the column of
// number lane / 4.
__device__ ExponentialSum ExactColumnSum(const sm90::Accumulator& logits, int part) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float values[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    values[k] = fmaxf(logits[PartAccumulator(part, k, 0)], logits[PartAccumulator(part, k, 1)]);
  }
  const float maximum = ReduceColumns(values, [](float a, float b) { return fmaxf(a, b); });
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const float base = Base(__shfl_sync(kFullWarp, maximum, 4 * k + lane % 4));
    values[k] = Exponential(logits[PartAccumulator(part, k, 0)] - base) +
                Exponential(logits[PartAccumulator(part, k, 1)] - base);
  }
  const float sum = ReduceColumns(values, [](float a, float b) { return a + b; });
  return {maximum, sum};
}

__device__ float WarpMaximum(float value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarp, value, distance));
  }
  return value;
}

// The thread's two rows over its 64 columns of a tile.
__device__ void RowMaxima(const sm90::Accumulator& logits, float (&maximum)[2]) {
  float several[2][4];  // not to wait for one another
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float& value = several[i / 2 % 2][i / 4];
    value = i % 2 == 0 ? logits[i] : fmaxf(value, logits[i]);
  }
#pragma unroll
  for (int i = 16; i < sm90::kAccumulators; ++i) {
    float& value = several[i / 2 % 2][i / 4 % 4];
    value = fmaxf(value, logits[i]);
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    maximum[row] = fmaxf(fmaxf(several[row][0], several[row][1]), fmaxf(several[row][2], several[row][3]));
  }
}

// Adds a tile to the sums of the thread's two rows, and leaves the warp's sums of its columns in `column_sums`. Both
// come from the same exponentials, which are relative to the thread's largest logit of the row.
template <bool kColumns>
__device__ void AddTile(const sm90::Accumulator& logits, ExponentialSum (&sums)[2], ExponentialSum* column_sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float maximum[2], factor[2], base[2], sum[2] = {0.0f, 0.0f};
  RowMaxima(logits, maximum);
  const float warp_maximum = kColumns ? WarpMaximum(fmaxf(maximum[0], maximum[1])) : 0.0f;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    base[row] = Base(maximum[row]);
    factor[row] = kColumns ? Exponential(maximum[row] - Base(warp_maximum)) : 0.0f;
  }
#pragma unroll
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
    float columns[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float first = Exponential(logits[PartAccumulator(part, k, 0)] - base[0]);
      const float second = Exponential(logits[PartAccumulator(part, k, 1)] - base[1]);
      sum[0] += first;
      sum[1] += second;
      if constexpr (kColumns) columns[k] = first * factor[0] + second * factor[1];
    }
    if constexpr (kColumns) {
      const float column_sum = ReduceColumns(columns, [](float a, float b) { return a + b; });
      ExponentialSum of_column = {warp_maximum, column_sum};
      if (__any_sync(kFullWarp, column_sum < kLeastColumnSum)) of_column = ExactColumnSum(logits, part);
      column_sums[PartColumn(lane, part, lane / 4)] = of_column;
    }
  }
#pragma unroll
  for (int row = 0; row < 2; ++row) sums[row] = Join(sums[row], {maximum[row], sum[row]});
}

__device__ void WritePositives(const sm90::Accumulator& logits, const Row (&rows)[2], int32_t first_column,
                               int thread, float* positive_logit) {
  const bool here = rows[0].HasPositiveIn(first_column) || rows[1].HasPositiveIn(first_column);
  if (!__any_sync(kFullWarp, here)) return;
#pragma unroll
  for (int i = 0; i < sm90::kAccumulators; ++i) {
    const Row& row = rows[i / 2 % 2];
    if (row.IsPositive(first_column, sm90::AccumulatorColumn(thread, i))) positive_logit[row.row] = logits[i];
  }
  __syncwarp();
}

// A thread's two columns: the four warps' sums join those of the rows before, which the same thread wrote.
struct ColumnJoin {
  ExponentialSum* partial;  // [candidates], the group's
  int32_t first_column;
  int32_t num_candidates;
  ExponentialSum before[2];

  __device__ void Fetch(int thread, bool is_first) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int32_t d = first_column + thread + k * sm90::kWarpgroup;
      before[k] = is_first || d >= num_candidates ? Nothing() : partial[d];
    }
  }

  __device__ void Add(int thread, const ExponentialSum (&warps)[kWarpsOfGroup][sm90::kTileColumns]) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int column = thread + k * sm90::kWarpgroup;
      ExponentialSum sum = before[k];
#pragma unroll
      for (int warp = 0; warp < kWarpsOfGroup; ++warp) sum = Join(sum, warps[warp][column]);
      if (first_column + column < num_candidates) partial[first_column + column] = sum;
    }
  }
};

// The four threads of a row are neighbours.
__device__ void WriteRowSum(ExponentialSum sum, const Row& row, ExponentialSum* to) {
#pragma unroll
  for (int distance = 1; distance < 4; distance *= 2) {
    const ExponentialSum other = {__shfl_xor_sync(kFullWarp, sum.maximum, distance),
                                  __shfl_xor_sync(kFullWarp, sum.sum, distance)};
    sum = Join(sum, other);
  }
  if (threadIdx.x % 4 == 0 && row.exists()) to[row.row] = sum;
}

template <bool kColumns, class Work>
__device__ void SumTiles(const SumTask& task, sm90::Consumer<Work>& consumer, SharedMemory& shared) {
  const LogitsPart& part = task.part;
  const Partials& partials = task.partials;
  const int group = consumer.group, thread = consumer.thread;
  const auto block = static_cast<int32_t>(blockIdx.x);
  const Range row_tiles = part.shares.RowTiles(block), column_tiles = part.shares.ColumnTiles(block);
  const auto num_candidates = static_cast<int32_t>(part.inputs.candidates.rows);
  const float scale = *part.inputs.scale;
  ColumnJoin join;
  join.num_candidates = num_candidates;
  const int64_t own = part.shares.RowShare(block) * 2 + group;
  join.partial = kColumns ? partials.columns + own * num_candidates : nullptr;
  int turn = 0;
  for (int32_t row_tile = row_tiles.first; row_tile < row_tiles.end; ++row_tile) {
    const int64_t first_row = int64_t{row_tile} * sm90::kTileRows + group * sm90::kInstructionRows;
    const Row rows[2] = {RowAt(part, first_row + sm90::AccumulatorRow(thread, 0)),
                         RowAt(part, first_row + sm90::AccumulatorRow(thread, 2))};
    ExponentialSum sums[2] = {Nothing(), Nothing()};
    for (int32_t column_tile = column_tiles.first; column_tile < column_tiles.end; ++column_tile, turn ^= 1) {
      join.first_column = column_tile * sm90::kTileColumns;
      uint32_t* keys = shared.keys.keys[group][turn];
      bool irregular = BringKeys(part.inputs, join.first_column, thread, keys);
      if constexpr (kColumns) join.Fetch(thread, row_tile == row_tiles.first);
      sm90::Accumulator logits;
      consumer.MultiplyTile(part.num_slabs, logits);
      irregular = sm90::GroupBarrierAny(group, irregular);
      FormLogits(logits, part, scale, join.first_column, thread, rows, keys, irregular);
      WritePositives(logits, rows, join.first_column, thread, task.positive_logit);
      AddTile<kColumns>(logits, sums, shared.column_sums[group][thread / 32]);
      if constexpr (kColumns) {
        sm90::GroupBarrier(group);
        join.Add(thread, shared.column_sums[group]);
      }
    }
    ExponentialSum* to = partials.rows + part.shares.ColumnShare(block) * part.num_queries;
    for (int row = 0; row < 2; ++row) WriteRowSum(sums[row], rows[row], to);
  }
}

#endif

template <ElementKind kElements, bool kColumns>
struct SumWork : LogitsWork<kElements> {
  static constexpr char kName[] = "HopperForwardKernel";
  using Task = SumTask;
  using Shared = SharedMemory;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __device__ static void Consume(const Task& task, sm90::Consumer<SumWork>& consumer, Shared& shared) {
    SumTiles<kColumns>(task, consumer, shared);
  }
#endif
};

LogitsPart WholePart(const LossInputs& inputs, const DeviceTraits& device) {
  const int64_t queries = inputs.queries.rows;
  return {inputs, 0, queries, DealTiles(queries, inputs.candidates.rows, device.multiprocessors),
          Pieces(inputs.queries.width, kTermsOfSlab)};
}

Partials Carve(const LogitsPart& part, bool columns, Carver& carver) {
  Partials partials = {};
  partials.rows = carver.Take<ExponentialSum>(part.shares.column_shares * part.num_queries);
  if (columns) {
    partials.columns = carver.Take<ExponentialSum>(part.shares.row_shares * 2 * part.inputs.candidates.rows);
  }
  return partials;
}

}  // namespace

size_t HopperForwardWorkspace(const LossInputs& inputs, bool columns, const DeviceTraits& device) {
  Carver carver(nullptr);
  Carve(WholePart(inputs, device), columns, carver);
  return carver.used();
}

void HopperForward(const ForwardTask& task, const DeviceTraits& device, void* workspace, cudaStream_t stream) {
  const LossInputs& inputs = task.inputs;
  const LogitsPart part = WholePart(inputs, device);
  const bool columns = task.column_lse != nullptr;
  Carver carver(workspace);
  const Partials partials = Carve(part, columns, carver);
  const auto bytes = static_cast<size_t>(part.num_queries) * sizeof(float);
  Check(cudaMemsetAsync(task.positive_logit, 0, bytes, stream), "clearing the positives' logits");
  With16Bits(inputs.queries.type, [&]<ElementKind kKind>() {
    const CUtensorMap queries = MapRows(inputs.queries, kKind, 0, part.num_queries, sm90::kTileRows);
    const CUtensorMap candidates = MapRows(inputs.candidates, kKind, 0, inputs.candidates.rows, sm90::kTileColumns);
    const SumTask sums = {part, partials, task.positive_logit};
    if (columns) {
      sm90::LaunchTiles<SumWork<kKind, true>>(part.shares.NumBlocks(), queries, candidates, sums, stream);
    } else {
      sm90::LaunchTiles<SumWork<kKind, false>>(part.shares.NumBlocks(), queries, candidates, sums, stream);
    }
  });
  JoinSums(partials.rows, part.shares.column_shares, part.num_queries, task.row_lse, stream);
  if (!columns) return;
  JoinSums(partials.columns, 2 * part.shares.row_shares, inputs.candidates.rows, task.column_lse, stream);
}

}  // namespace hybatch::contrastive::cuda
