// Persistent thread blocks of three warpgroups. One thread of the first copies slabs of 128 queries and 256 candidates
// into a ring of stages; the other two warpgroups multiply 64 queries each by the 256 candidates, and count the scores
// from their registers while the ring fills up again.

#include <algorithm>

#include "candidate_tiles.cuh"
#include "hopper.cuh"
#include "hopper_instructions.cuh"
#include "tensor_map.h"
#include "tile_counts.h"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kQueries = 128;     // of a tile
constexpr int kCandidates = sm90::kInstructionColumns;
constexpr int kStages = 4;
constexpr int kWarpgroup = 128;
constexpr int kConsumers = kQueries / sm90::kInstructionRows * kWarpgroup;
constexpr int kThreads = kWarpgroup + kConsumers;
constexpr int kQueryBytes = kQueries * sm90::kSlabBytes;
constexpr int kStageBytes = kQueryBytes + kCandidates * sm90::kSlabBytes;
constexpr int64_t kCopiedBytes = int64_t{128} << 20;  // of one matrix at a time, where it must be copied

struct SharedMemory {
  alignas(1024) unsigned char stages[kStages][kStageBytes];
  float stash[sm90::kPart][kConsumers];
  TileCounts<kQueries> counts;
  uint64_t full[kStages];
  uint64_t empty[kStages];
};
constexpr int kSharedBytes = sizeof(SharedMemory) + 1024;  // room to align it
static_assert(kSharedBytes <= 227 * 1024);

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

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A place in the ring and how often it has been passed, modulo 2.
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ void ConsumerBarrier() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory"); }

template <int kSlabElements>
__device__ void Produce(const CUtensorMap& queries, const CUtensorMap& candidates, const Part& part,
                        SharedMemory& shared) {
  RingPlace place;
  for (int64_t index = blockIdx.x; index < part.num_items(); index += gridDim.x) {
    const WorkItem item = WorkItemAt(index, part.num_query_blocks(), part.num_tiles());
    for (int32_t slab = 0; slab < part.num_slabs; ++slab) {
      sm90::Wait(&shared.empty[place.stage], place.parity ^ 1);  // passes at once in the first round
      uint64_t* full = &shared.full[place.stage];
      unsigned char* stage = shared.stages[place.stage];
      sm90::ArriveExpecting(full, kStageBytes);
      sm90::CopyBox(stage, &queries, full, slab * kSlabElements, item.query_block * kQueries);
      sm90::CopyBox(stage + kQueryBytes, &candidates, full, slab * kSlabElements, item.tile * kCandidates);
      place.Advance();
    }
  }
}

template <ElementKind kKind>
__device__ void MultiplyTile(int32_t num_slabs, int warpgroup, RingPlace& place, SharedMemory& shared,
                             sm90::Accumulator& scores) {
  const int query_offset = warpgroup * sm90::kInstructionRows * sm90::kSlabBytes;
  const bool signals = threadIdx.x % 32 == 0;
  int previous = -1;
  sm90::Pin(scores);
  for (int32_t slab = 0; slab < num_slabs; ++slab) {
    sm90::Wait(&shared.full[place.stage], place.parity);
    const unsigned char* stage = shared.stages[place.stage];
    sm90::ProductsBegin();
    sm90::MultiplySlab<kKind>(scores, stage + query_offset, stage + kQueryBytes, slab == 0);
    sm90::ProductsCommit();
    sm90::ProductsWait<1>();  // the slab before has been read
    if (previous >= 0 && signals) sm90::Arrive(&shared.empty[previous]);
    previous = place.stage;
    place.Advance();
  }
  sm90::ProductsWait<0>();
  sm90::Pin(scores);
  if (previous >= 0 && signals) sm90::Arrive(&shared.empty[previous]);
}

// As in the generic kernel: what reaches the lowest threshold goes through the thread's own words of shared memory.
__device__ void CountTile(const sm90::Accumulator& scores, int consumer, SharedMemory& shared,
                          const CountTables& tables, const CandidateTiles& tiles, const CandidateTile& tile,
                          int32_t& self_hits) {
  const int thread = consumer % kWarpgroup;
  const int first_row = consumer / kWarpgroup * sm90::kInstructionRows;
  const float lowest[2] = {shared.counts.lowest[first_row + sm90::AccumulatorRow(thread, 0)],
                           shared.counts.lowest[first_row + sm90::AccumulatorRow(thread, 2)]};
#pragma unroll
  for (int part = 0; part < sm90::kAccumulators / sm90::kPart; ++part) {
    uint32_t reached = 0;
#pragma unroll
    for (int i = 0; i < sm90::kPart; ++i) {
      const float score = scores[part * sm90::kPart + i];
      if (score >= lowest[i / 2 % 2]) {
        reached |= 1u << i;
        shared.stash[i][consumer] = score;
      }
    }
    for (reached &= sm90::ColumnsInUse(thread, part, tile.count); reached != 0; reached &= reached - 1) {
      const int i = __ffs(static_cast<int>(reached)) - 1;
      const int accumulator = part * sm90::kPart + i;
      CountInTile(shared.stash[i][consumer], first_row + sm90::AccumulatorRow(thread, accumulator),
                  sm90::AccumulatorColumn(thread, accumulator), shared.counts, tables, tiles, tile, self_hits);
    }
  }
  __syncwarp();
}

template <ElementKind kKind>
__device__ void Consume(const Part& part, const CountTables& tables, const int32_t* tile_groups, int64_t* status,
                        SharedMemory& shared) {
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroup;
  const CandidateTiles as_they_stand = {};
  int32_t self_hits = 0;
  RingPlace place;
  for (int64_t index = blockIdx.x; index < part.num_items(); index += gridDim.x) {
    const WorkItem item = WorkItemAt(index, part.num_query_blocks(), part.num_tiles());
    const int32_t first = item.tile * kCandidates;
    const CandidateTile tile = {part.first_candidate + first, min(kCandidates, part.num_candidates - first),
                                tile_groups[item.tile]};
    shared.counts.Load(tables, part.first_query + item.query_block * kQueries, consumer, kConsumers, ConsumerBarrier);
    sm90::Accumulator scores;
#pragma unroll
    for (int i = 0; i < sm90::kAccumulators; ++i) scores[i] = 0;
    MultiplyTile<kKind>(part.num_slabs, consumer / kWarpgroup, place, shared, scores);
    CountTile(scores, consumer, shared, tables, as_they_stand, tile, self_hits);
    ConsumerBarrier();
    shared.counts.Flush(tables, tile.group, consumer, kConsumers);
    ConsumerBarrier();
  }
  AddSelfHits(self_hits, status);
}

#endif

template <ElementKind kKind>
__global__ void __launch_bounds__(kThreads, 1)
    HopperCountKernel(const __grid_constant__ CUtensorMap queries, const __grid_constant__ CUtensorMap candidates,
                      const Part part, const CountTables tables, const int32_t* tile_groups, int64_t* status) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char shared_bytes[];
  const uint32_t misaligned = sm90::SharedAddress(shared_bytes) % 1024;
  SharedMemory& shared = *reinterpret_cast<SharedMemory*>(shared_bytes + (misaligned == 0 ? 0 : 1024 - misaligned));
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      sm90::InitBarrier(&shared.full[stage], 1);
      sm90::InitBarrier(&shared.empty[stage], kConsumers / 32);
    }
    sm90::FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    sm90::GiveRegisters<40>();
    constexpr int kSlabElements = sm90::kSlabBytes / static_cast<int>(sizeof(typename Element<kKind>::Stored));
    if (threadIdx.x == 0) Produce<kSlabElements>(queries, candidates, part, shared);
  } else {
    sm90::TakeRegisters<232>();
    Consume<kKind>(part, tables, tile_groups, status, shared);
  }
#endif
}

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

template <ElementKind kKind>
__global__ void CopyRounded(const typename Element<kKind>::Stored* from, int64_t rows, int64_t width, int64_t stride,
                            typename Element<kKind>::Stored* to) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t h = threadIdx.x; h < stride; h += blockDim.x) {
      typename Element<kKind>::Stored value = h < width ? from[row * width + h] : 0;
      if constexpr (kKind == ElementKind::kTf32) value = RoundToTf32(value);
      to[row * stride + h] = value;
    }
  }
}

int64_t SizeOf(ElementKind kind) { return kind == ElementKind::kBFloat16 || kind == ElementKind::kFloat16 ? 2 : 4; }

// Bulk copies want rows that begin at multiples of 16 bytes.
int64_t CopiedRowBytes(const Matrix& matrix, ElementKind kind) {
  return (matrix.width * SizeOf(kind) + 15) / 16 * 16;
}

bool ReadAsItStands(const Matrix& matrix, ElementKind kind) {
  return kind != ElementKind::kTf32 && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 &&
         CopiedRowBytes(matrix, kind) == matrix.width * SizeOf(kind);
}

// Rows of a launch: all, or as many as are copied at a time; whole tiles of either matrix.
int64_t RowsAtATime(const Matrix& matrix, ElementKind kind) {
  if (ReadAsItStands(matrix, kind)) return matrix.rows;
  const int64_t fitting = kCopiedBytes / CopiedRowBytes(matrix, kind) / kCandidates * kCandidates;
  return std::min(matrix.rows, std::max<int64_t>(fitting, kCandidates));
}

void* CarveCopy(const Matrix& matrix, ElementKind kind, Carver& carver) {
  if (ReadAsItStands(matrix, kind)) return nullptr;
  return carver.Take<char>(RowsAtATime(matrix, kind) * CopiedRowBytes(matrix, kind));
}

// A tensor map of rows first .. first + count - 1, which are copied to `copy` where that is needed.
CUtensorMap MapRows(const Matrix& matrix, ElementKind kind, int64_t first, int64_t count, int box_rows, void* copy,
                    cudaStream_t stream) {
  const int64_t row_bytes = CopiedRowBytes(matrix, kind);
  const auto* data = static_cast<const char*>(matrix.data) + first * matrix.width * SizeOf(kind);
  if (ReadAsItStands(matrix, kind)) return RowsMap(data, kind, matrix.width, count, row_bytes, box_rows);
  WithKind(kind, [&]<ElementKind kKind>() {
    using Stored = typename Element<kKind>::Stored;
    CopyRounded<kKind><<<BlocksFor(count, 1, 1 << 14), 256, 0, stream>>>(
        reinterpret_cast<const Stored*>(data), count, matrix.width, row_bytes / SizeOf(kind),
        static_cast<Stored*>(copy));
  });
  CheckLaunch("launching CopyRounded");
  return RowsMap(copy, kind, matrix.width, count, row_bytes, box_rows);
}

template <ElementKind kKind>
void Launch(const CUtensorMap& queries, const CUtensorMap& candidates, const Part& part, const CountTables& tables,
            const int32_t* tile_groups, int64_t* status, const DeviceTraits& device, cudaStream_t stream) {
  Check(cudaFuncSetAttribute(HopperCountKernel<kKind>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "raising the shared memory of HopperCountKernel");
  const unsigned blocks = BlocksFor(part.num_items(), 1, device.multiprocessors);
  HopperCountKernel<kKind>
      <<<blocks, kThreads, kSharedBytes, stream>>>(queries, candidates, part, tables, tile_groups, status);
  CheckLaunch("launching HopperCountKernel");
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
                 const SortedThresholds& sorted, const DeviceTraits& device, cudaStream_t stream) {
  FindTileGroups<<<BlocksFor(NumTiles(task), 8, 1 << 30), 256, 0, stream>>>(
      task.groups, task.candidates.rows, task.num_groups, NumTiles(task), workspace.tile_groups);
  CheckLaunch("launching FindTileGroups");
  const CountTables tables = TablesOf(task, sorted);
  const int64_t query_step = RowsAtATime(task.queries, kind);
  const int64_t candidate_step = RowsAtATime(task.candidates, kind);
  const int64_t slab_elements = sm90::kSlabBytes / SizeOf(kind);
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
      const int32_t* tile_groups = workspace.tile_groups + candidate / kCandidates;
      const auto launch = [&]<ElementKind kKind>() {
        Launch<kKind>(queries, candidates, part, tables, tile_groups, task.status, device, stream);
      };
      if (kind == ElementKind::kBFloat16) launch.template operator()<ElementKind::kBFloat16>();
      if (kind == ElementKind::kFloat16) launch.template operator()<ElementKind::kFloat16>();
      if (kind == ElementKind::kTf32) launch.template operator()<ElementKind::kTf32>();
    }
  }
}

}  // namespace hybatch::ranking::cuda
