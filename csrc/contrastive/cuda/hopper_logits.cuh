// From a warpgroup's products to its logits: scaled, and minus infinity where a pair takes no part.

#pragma once

#include "../contract.h"
#include "common/cuda/hopper/kernel.cuh"
#include "hopper_arithmetic.h"
#include "hopper_schedule.h"

namespace hybatch::contrastive::cuda {

static_assert(kRowsOfTile == sm90::kTileRows && kColumnsOfTile == sm90::kTileColumns);

// Queries first_query .. + num_queries - 1 as the rows of a launch, and all candidates as its columns.
struct LogitsPart {
  LossInputs inputs;
  int64_t first_query;
  int64_t num_queries;
  TileShares shares;
  int32_t num_slabs;
};

// Keys of a tile's candidates, for each warpgroup; the tile before may still be looked at.
struct TileKeys {
  uint32_t keys[sm90::kConsumerGroups][2][sm90::kTileColumns];
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr unsigned kFullWarp = 0xffffffffu;

// One of the two rows of a tile that a thread holds accumulators of. Registers are scarce beside these.
struct Row {
  int32_t row;       // of the launch; -1: no such query
  int32_t positive;  // -1: none
  uint32_t key;
  __device__ bool exists() const { return row >= 0; }
  __device__ bool IsPositive(int32_t first_column, int column) const {
    return positive >= 0 && positive - first_column == column;
  }
  __device__ bool HasPositiveIn(int32_t first_column) const {
    return positive >= first_column && positive - first_column < sm90::kTileColumns;
  }
};

__device__ inline Row RowAt(const LogitsPart& part, int64_t row) {
  if (row >= part.num_queries) return {-1, -1, QueryKey(-1)};
  const int64_t query = part.first_query + row;
  return {static_cast<int32_t>(row), static_cast<int32_t>(part.inputs.positive_index[query]),
          QueryKey(part.inputs.query_groups[query])};
}

// True if a column of the tile is an empty slot or past the end. Each of the group's threads brings two columns; the
// keys are there for all of them after a barrier of the group.
__device__ inline bool BringKeys(const LossInputs& inputs, int32_t first_column, int thread, uint32_t* keys) {
  bool irregular = false;
#pragma unroll
  for (int column = thread; column < sm90::kTileColumns; column += sm90::kWarpgroup) {
    const int64_t d = int64_t{first_column} + column;
    const int64_t group = d < inputs.candidates.rows ? inputs.candidate_groups[d] : kEmptySlot;
    irregular |= group == kEmptySlot;
    keys[column] = CandidateKey(group);
  }
  return irregular;
}

// No branches: they would have the compiler hold two copies of the logits.
__device__ inline void LeaveOut(sm90::Accumulator& logits, const LogitsPart& part, int32_t first_column, int thread,
                                const Row (&rows)[2]) {
  const int64_t* groups = part.inputs.candidate_groups + first_column;
  const int64_t rest = part.inputs.candidates.rows - first_column;
  const int num_columns = rest < sm90::kTileColumns ? static_cast<int>(rest) : sm90::kTileColumns;
  int64_t row_groups[2];
  int32_t positives[2];
  for (int of = 0; of < 2; ++of) {
    row_groups[of] = rows[of].exists() ? part.inputs.query_groups[part.first_query + rows[of].row] : -1;
    positives[of] = rows[of].positive < 0 ? -1 : rows[of].positive - first_column;
  }
#pragma unroll
  for (int i = 0; i < sm90::kAccumulators; ++i) {
    const int of = i / 2 % 2, column = sm90::AccumulatorColumn(thread, i);
    const int64_t group = groups[min(column, num_columns - 1)];
    const bool inside = rows[of].exists() & (column < num_columns);
    logits[i] = inside & TakesPart(column, group, positives[of], row_groups[of]) ? logits[i] : -INFINITY;
    if (i % 8 == 7) asm volatile("" ::: "memory");  // or all groups would be loaded first, into too many registers
  }
}

// In: the products of a tile. Nearly all tiles have no pair that is left out: keys say which have.
__device__ inline void FormLogits(sm90::Accumulator& logits, const LogitsPart& part, float scale,
                                  int32_t first_column, int thread, const Row (&rows)[2], const uint32_t* keys,
                                  bool irregular) {
  bool suspect[4] = {irregular, false, false, false};  // several, not to wait for one another
  for (const Row& row : rows) {
    suspect[0] |= !row.exists();
    suspect[1] |= row.HasPositiveIn(first_column);
  }
#pragma unroll
  for (int i = 0; i < sm90::kAccumulators; i += 4) {
    const uint2 pair = *reinterpret_cast<const uint2*>(keys + sm90::AccumulatorColumn(thread, i));
    suspect[0] |= pair.x == rows[0].key;
    suspect[1] |= pair.y == rows[0].key;
    suspect[2] |= pair.x == rows[1].key;
    suspect[3] |= pair.y == rows[1].key;
#pragma unroll
    for (int k = 0; k < 4; ++k) logits[i + k] *= scale;
    if (i % 32 == 28) asm volatile("" ::: "memory");  // or all keys would be loaded first
  }
  const bool any = suspect[0] | suspect[1] | suspect[2] | suspect[3];
  sm90::Pin(logits);  // or the compiler would hold the logits of either way beside those of the other
  if (__any_sync(kFullWarp, any)) LeaveOut(logits, part, first_column, thread, rows);
  sm90::Pin(logits);
  __syncwarp();
}

#endif

// What the works that begin with logits have in common: each row tile of the block's share meets each of its column
// tiles.
template <ElementKind kElements>
struct LogitsWork : sm90::Operands<kElements> {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  template <class Task, class Visit>
  __device__ static void ForEachTile(const Task& task, Visit visit) {
    const auto block = static_cast<int32_t>(blockIdx.x);
    const TileShares& shares = task.part.shares;
    const Range row_tiles = shares.RowTiles(block), column_tiles = shares.ColumnTiles(block);
    for (int32_t row_tile = row_tiles.first; row_tile < row_tiles.end; ++row_tile) {
      for (int32_t column_tile = column_tiles.first; column_tile < column_tiles.end; ++column_tile) {
        visit(sm90::TileSlabs{row_tile, column_tile, 0, task.part.num_slabs});
      }
    }
  }
#endif
};

}  // namespace hybatch::contrastive::cuda
