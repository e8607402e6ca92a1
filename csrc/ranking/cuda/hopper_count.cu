// Tiles of 128 queries by 256 candidates, whose scores are counted from the registers that they come out in.

#include <algorithm>

#include "candidate_tiles.cuh"
#include "common/cuda/hopper/kernel.cuh"
#include "hopper.cuh"
#include "hopper_operands.cuh"
#include "rescoring.h"
#include "tile_counts.h"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kQueries = sm90::kTileRows;
constexpr int kCandidates = kHopperTile;
constexpr int kConsumers = sm90::kConsumers;
static_assert(kHopperTile == sm90::kTileColumns);

struct SharedMemory {
  sm90::Stages stages;
  float stash[sm90::kPart][kConsumers];
  TileCounts<kQueries> counts;
  TileBands<kQueries> bands;  // used where undecided scores are queued
  sm90::StageBarriers barriers;
};

// The rows of both matrices that one launch multiplies, and where they stand in the whole.
struct Part {
  int32_t first_query;
  int32_t num_queries;
  int32_t first_candidate;
  int32_t num_candidates;
  int32_t num_slabs;

  __host__ __device__ int32_t num_query_blocks() const { return (num_queries + kQueries - 1) / kQueries; }
  __host__ __device__ int32_t num_tiles() const { return (num_candidates + kCandidates - 1) / kCandidates; }
  __host__ __device__ int64_t num_items() const { return int64_t{num_query_blocks()} * num_tiles(); }
};

// What the kernel is called with.
struct CountTask {
  Part part;
  CountTables tables;
  const int32_t* tile_groups;
  Rescoring rescoring;
  int64_t* status;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// The block's share of all pairs of a query block and a candidate tile.
template <class Visit>
__device__ void ForEachItem(const Part& part, Visit visit) {
  for (int64_t index = blockIdx.x; index < part.num_items(); index += gridDim.x) {
    visit(WorkItemAt(index, part.num_query_blocks(), part.num_tiles()));
  }
}

// As in the generic kernel: what reaches the lowest threshold goes through the thread's own words of shared memory.
// `count_one(score, query, column)` counts it; where bands are at work, a score that is no number must reach it too.
template <bool kRescored, class CountOne>
__device__ void CountTile(const sm90::Accumulator& scores, int consumer, int32_t num_columns, SharedMemory& shared,
                          CountOne count_one) {
  const int thread = consumer % sm90::kWarpgroup;
  const int first_row = consumer / sm90::kWarpgroup * sm90::kInstructionRows;
  const float lowest[2] = {shared.counts.lowest[first_row + sm90::AccumulatorRow(thread, 0)],
                           shared.counts.lowest[first_row + sm90::AccumulatorRow(thread, 2)]};
#pragma unroll
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
    uint32_t reached = 0;
#pragma unroll
    for (int i = 0; i < sm90::kPart; ++i) {
      const float score = scores[part * sm90::kPart + i];
      if (kRescored ? !(score < lowest[i / 2 % 2]) : score >= lowest[i / 2 % 2]) {
        reached |= 1u << i;
        shared.stash[i][consumer] = score;
      }
    }
    for (reached &= sm90::ColumnsInUse(thread, part, num_columns); reached != 0; reached &= reached - 1) {
      const int i = __ffs(static_cast<int>(reached)) - 1;
      const int accumulator = part * sm90::kPart + i;
      count_one(shared.stash[i][consumer], first_row + sm90::AccumulatorRow(thread, accumulator),
                sm90::AccumulatorColumn(thread, accumulator));
    }
  }
  __syncwarp();
}

template <class Work, bool kRescored>
__device__ void CountTiles(const CountTask& task, sm90::Consumer<Work>& consumer, SharedMemory& shared) {
  const Part& part = task.part;
  const int index = consumer.group * sm90::kWarpgroup + consumer.thread;
  const CandidateTiles as_they_stand = {};
  int32_t self_hits = 0;
  ForEachItem(part, [&](const WorkItem& item) {
    const int32_t first = item.tile * kCandidates;
    const CandidateTile tile = {part.first_candidate + first, min(kCandidates, part.num_candidates - first),
                                task.tile_groups[item.tile]};
    const QueuedPair first_pair = {part.first_query + item.query_block * kQueries, tile.first};
    shared.counts.Load(task.tables, first_pair.query, index, kConsumers, sm90::ConsumerBarrier);
    if constexpr (kRescored) {
      shared.bands.Load(task.rescoring, tile.first / kCandidates, first_pair.query, index, kConsumers, shared.counts);
      sm90::ConsumerBarrier();
    }
    sm90::Accumulator scores;
    consumer.MultiplyTile(part.num_slabs, scores);
    CountTile<kRescored>(scores, index, tile.count, shared, [&](float score, int32_t query, int32_t column) {
      ScoreSink<kQueries> sink{shared.counts, task.tables, as_they_stand, tile, column, shared.counts.first[query],
                               self_hits};
      if constexpr (kRescored) {
        CountWithinBand(score, query, first_pair, task.rescoring.queue, shared.bands, sink);
      } else {
        CountInTile(score, query, sink);
      }
    });
    sm90::ConsumerBarrier();
    shared.counts.Flush(task.tables, tile.group, index, kConsumers);
    if constexpr (kRescored) {
      shared.bands.Flush(first_pair, task.rescoring.queue, index, kConsumers, sm90::ConsumerBarrier);
    }
    sm90::ConsumerBarrier();
  });
  if constexpr (!kRescored) AddSelfHits(self_hits, task.status);  // else what meets itself is queued
}

#endif

template <ElementKind kElements, bool kRescored>
struct CountWork : sm90::Operands<kElements> {
  static constexpr char kName[] = "HopperCountKernel";
  using Task = CountTask;
  using Shared = SharedMemory;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  template <class Visit>
  __device__ static void ForEachTile(const Task& task, Visit visit) {
    ForEachItem(task.part, [&](const WorkItem& item) {
      visit(sm90::TileSlabs{item.query_block, item.tile, 0, task.part.num_slabs});
    });
  }

  __device__ static void Consume(const Task& task, sm90::Consumer<CountWork>& consumer, Shared& shared) {
    CountTiles<CountWork, kRescored>(task, consumer, shared);
  }
#endif
};

// A warp per tile.
__global__ void FindTileGroups(const int32_t* groups, int64_t num_candidates, int64_t num_groups, int64_t num_tiles,
                               int32_t* tile_groups) {
  const int64_t tile = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (tile >= num_tiles) return;
  const int64_t first = tile * kCandidates;
  const int64_t end = min(first + kCandidates, num_candidates);
  const int32_t group = BinOf(groups[first], num_groups) - 1;
  bool same = true;
  for (int64_t row = first + threadIdx.x % 32; row < end; row += 32) {
    same &= BinOf(groups[row], num_groups) - 1 == group;
  }
  same = __all_sync(0xffffffffu, same);
  if (threadIdx.x % 32 == 0) tile_groups[tile] = same ? group : kMixedGroups;
}

int64_t NumTiles(const CountAboveTask& task) { return (task.candidates.rows + kCandidates - 1) / kCandidates; }

}  // namespace

HopperWorkspace CarveHopper(const CountAboveTask& task, ElementKind kind, Carver& carver) {
  HopperWorkspace workspace;
  workspace.tile_groups = carver.Take<int32_t>(NumTiles(task));
  workspace.queries = CarveCopy(task.queries, kind, carver);
  workspace.candidates = CarveCopy(task.candidates, kind, carver);
  return workspace;
}

void HopperCount(const CountAboveTask& task, ElementKind kind, const HopperWorkspace& workspace,
                 const SortedThresholds& sorted, const Rescoring* rescoring, const DeviceTraits& device,
                 cudaStream_t stream) {
  FindTileGroups<<<BlocksFor(NumTiles(task), 8, 1 << 30), 256, 0, stream>>>(
      task.groups, task.candidates.rows, task.num_groups, NumTiles(task), workspace.tile_groups);
  CheckLaunch("launching FindTileGroups");
  const CountTables tables = TablesOf(task, sorted);
  const int64_t query_step = RowsAtATime(task.queries, kind);
  const int64_t candidate_step = RowsAtATime(task.candidates, kind);
  const int64_t slab_elements = sm90::kSlabBytes / ElementBytes(kind);
  const auto num_slabs = static_cast<int32_t>((task.queries.width + slab_elements - 1) / slab_elements);
  for (int64_t query = 0; query < task.queries.rows; query += query_step) {
    const auto num_queries = static_cast<int32_t>(std::min(query_step, task.queries.rows - query));
    const CUtensorMap queries =
        MapRows(task.queries, kind, query, num_queries, kQueries, workspace.queries, stream);
    for (int64_t candidate = 0; candidate < task.candidates.rows; candidate += candidate_step) {
      const auto num_candidates = static_cast<int32_t>(std::min(candidate_step, task.candidates.rows - candidate));
      const CUtensorMap candidates =
          MapRows(task.candidates, kind, candidate, num_candidates, kCandidates, workspace.candidates, stream);
      const Part part = {static_cast<int32_t>(query), num_queries, static_cast<int32_t>(candidate), num_candidates,
                         num_slabs};
      const CountTask count = {part, tables, workspace.tile_groups + candidate / kCandidates,
                               rescoring != nullptr ? *rescoring : Rescoring{}, task.status};
      const unsigned blocks = BlocksFor(part.num_items(), 1, device.multiprocessors);
      WithTensorCoreKind(task.queries.type, kind, [&]<ElementKind, ElementKind kKind>() {
        if (rescoring != nullptr) {
          sm90::LaunchTiles<CountWork<kKind, true>>(blocks, queries, candidates, count, stream);
        } else {
          sm90::LaunchTiles<CountWork<kKind, false>>(blocks, queries, candidates, count, stream);
        }
      });
    }
  }
}

}  // namespace hybatch::ranking::cuda
