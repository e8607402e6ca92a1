// Persistent thread blocks; each takes tiles of 128 queries x 128 candidates, 8 x 8 scores per thread. Slabs of 64
// bytes of every row come in by cp.async, one slab ahead of the arithmetic. While codes are multiplied, a score holds the
// bits of an integer.

#include "codes.cuh"
#include "common/cuda/async_copy.cuh"
#include "common/cuda/runtime.h"
#include "generic.cuh"
#include "tile_counts.h"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kTile = kGenericTile;
constexpr int kThreads = 256;
constexpr int kPerThread = 8;                   // rows, and columns, of a thread
constexpr int kStep = kTile / kPerThread;       // between them: neighbours in a warp read neighbouring rows
constexpr int kSlabBytes = 64;                  // of a row
constexpr int kRowBytes = kSlabBytes + 16;      // eight consecutive rows then fall into different banks
constexpr int kOperandBytes = kTile * kRowBytes;
constexpr int kStageBytes = 2 * kOperandBytes;
constexpr int kChunksPerThread = kTile * (kSlabBytes / 16) / kThreads;  // of 16 bytes, of one operand
constexpr int kStashed = 32;                    // scores of a thread that are looked at together

// The first row and column of a thread. A warp spans 4 rows and 8 columns, so that each of its 16-byte loads takes at
// most 8 different rows, which fall into different banks.
__device__ int ThreadRow() { return threadIdx.x / 64 * 4 + threadIdx.x % 32 / 8; }
__device__ int ThreadColumn() { return threadIdx.x / 32 % 2 * 8 + threadIdx.x % 8; }

struct SharedMemory {
  // While a tile is multiplied: two stages of slabs. Then: the scores that are counted, kStashed per thread.
  alignas(16) unsigned char bytes[2 * kStageBytes];
  const unsigned char* rows[2][kTile];  // of queries and candidates; null: a row that is not there, zeros
  TileCounts<kTile> counts;
};
static_assert(kStashed * kThreads * sizeof(float) <= 2 * kStageBytes);

struct Operands {
  const unsigned char* queries;
  const unsigned char* candidates;
  int row_bytes;
  bool aligned;  // every 16-byte piece of every row can be copied as such
};

// Copies this thread's chunks of the slab that begins at byte `first` of each row; zeros past the row's end.
template <class Stored>
__device__ void LoadSlab(const Operands& operands, const unsigned char* const* rows, int first, unsigned char* stage) {
  const int chunk = threadIdx.x % 4;
  const int begin = first + chunk * 16;
#pragma unroll
  for (int i = 0; i < kChunksPerThread; ++i) {
    const int at = threadIdx.x / 4 + i * (kThreads / 4);
    unsigned char* to = stage + at * kRowBytes + chunk * 16;
    const unsigned char* row = rows[at];
    const int bytes = row == nullptr ? 0 : max(0, min(16, operands.row_bytes - begin));
    const unsigned char* from = bytes > 0 ? row + begin : operands.queries;
    if (operands.aligned) {
      CopyAsync(to, from, bytes);
    } else {
#pragma unroll
      for (int e = 0; e < 16 / static_cast<int>(sizeof(Stored)); ++e) {
        const bool inside = e * static_cast<int>(sizeof(Stored)) < bytes;
        reinterpret_cast<Stored*>(to)[e] = inside ? reinterpret_cast<const Stored*>(from)[e] : Stored{0};
      }
    }
  }
}

// Four consecutive elements of a row.
template <ElementKind kKind>
__device__ void LoadFour(const unsigned char* from, float (&values)[4]) {
  using Stored = typename Element<kKind>::Stored;
  if constexpr (sizeof(Stored) == 4) {
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    values[0] = Element<kKind>::Value(bits.x);
    values[1] = Element<kKind>::Value(bits.y);
    values[2] = Element<kKind>::Value(bits.z);
    values[3] = Element<kKind>::Value(bits.w);
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(from);
    values[0] = Element<kKind>::Value(static_cast<Stored>(bits.x & 0xffff));
    values[1] = Element<kKind>::Value(static_cast<Stored>(bits.x >> 16));
    values[2] = Element<kKind>::Value(static_cast<Stored>(bits.y & 0xffff));
    values[3] = Element<kKind>::Value(static_cast<Stored>(bits.y >> 16));
  }
}

using Scores = float[kPerThread][kPerThread];

// Adds the products of one slab, element by element in ascending order. Zeros past the end of the rows leave every
// score the value it has.
template <ElementKind kKind>
__device__ void MultiplySlab(const unsigned char* stage, int thread_row, int thread_column, Scores& scores) {
  constexpr int kFour = 4 * sizeof(typename Element<kKind>::Stored);
  const unsigned char* queries = stage + thread_row * kRowBytes;
  const unsigned char* candidates = stage + kOperandBytes + thread_column * kRowBytes;
#pragma unroll 1
  for (int at = 0; at < kSlabBytes; at += kFour) {
    float query[kPerThread][4];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) LoadFour<kKind>(queries + i * kStep * kRowBytes + at, query[i]);
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      float candidate[4];
      LoadFour<kKind>(candidates + j * kStep * kRowBytes + at, candidate);
#pragma unroll
      for (int h = 0; h < 4; ++h) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) scores[i][j] = __fmaf_rn(query[i][h], candidate[h], scores[i][j]);
      }
    }
  }
}

// The same of codes, 8 bytes at a time: with 16 of them popcounts would run out of registers.
template <ElementKind kKind>
__device__ void MultiplyCodes(const unsigned char* stage, int thread_row, int thread_column, Scores& scores) {
  const unsigned char* queries = stage + thread_row * kRowBytes;
  const unsigned char* candidates = stage + kOperandBytes + thread_column * kRowBytes;
#pragma unroll 1
  for (int at = 0; at < kSlabBytes; at += 8) {
    uint2 query[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      query[i] = *reinterpret_cast<const uint2*>(queries + i * kStep * kRowBytes + at);
    }
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const uint2 candidate = *reinterpret_cast<const uint2*>(candidates + j * kStep * kRowBytes + at);
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int32_t sum = AddCodes<kKind>(query[i].x, candidate.x, __float_as_int(scores[i][j]));
        scores[i][j] = __int_as_float(AddCodes<kKind>(query[i].y, candidate.y, sum));
      }
    }
  }
}

template <ElementKind kKind>
__device__ void FinishCodes(int row_bytes, Scores& scores) {
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      scores[i][j] = ScoreOfCodes<kKind>(__float_as_int(scores[i][j]), row_bytes);
    }
  }
}

// Where the rows of a tile are; a barrier must follow before they are read.
__device__ void FindRows(const Operands& operands, const CandidateTiles& tiles, const CandidateTile& tile,
                         int32_t first_query, int32_t num_queries, SharedMemory& shared) {
  static_assert(kThreads == 2 * kTile);
  const int at = threadIdx.x % kTile;
  if (threadIdx.x < kTile) {
    const int64_t query = first_query + at;
    shared.rows[0][at] = query < num_queries ? operands.queries + query * operands.row_bytes : nullptr;
  } else {
    const unsigned char* row = nullptr;
    if (at < tile.count) row = operands.candidates + int64_t{tiles.Row(tile.first + at)} * operands.row_bytes;
    shared.rows[1][at] = row;
  }
}

template <ElementKind kKind>
__device__ void MultiplyTile(const Operands& operands, SharedMemory& shared, Scores& scores) {
  using Stored = typename Element<kKind>::Stored;
  const auto load = [&](int first, int stage) {
    unsigned char* to = shared.bytes + stage * kStageBytes;
    LoadSlab<Stored>(operands, shared.rows[0], first, to);
    LoadSlab<Stored>(operands, shared.rows[1], first, to + kOperandBytes);
  };
  const int thread_row = ThreadRow(), thread_column = ThreadColumn();
  load(0, 0);
  int stage = 0;
#pragma unroll 1
  for (int first = 0; first < operands.row_bytes; first += kSlabBytes) {
    CopyAsyncWait();
    __syncthreads();  // the slab is there for all, and the other stage has been read by all
    if (first + kSlabBytes < operands.row_bytes) load(first + kSlabBytes, stage ^ 1);
    const unsigned char* slab = shared.bytes + stage * kStageBytes;
    if constexpr (IsCode(kKind)) {
      MultiplyCodes<kKind>(slab, thread_row, thread_column, scores);
    } else {
      MultiplySlab<kKind>(slab, thread_row, thread_column, scores);
    }
    stage ^= 1;
  }
  CopyAsyncWait();
  __syncthreads();
  if constexpr (IsCode(kKind)) FinishCodes<kKind>(operands.row_bytes, scores);
}

// Each thread puts its scores that reach their query's lowest threshold where a loop can index them (its own words of
// shared memory, so that no barrier is needed) and counts them one by one.
__device__ void CountTile(const Scores& scores, SharedMemory& shared, const CountTables& tables,
                          const CandidateTiles& tiles, const CandidateTile& tile, int32_t& self_hits) {
  constexpr int kRows = kStashed / kPerThread;
  const int thread_row = ThreadRow(), thread_column = ThreadColumn();
  float* stash = reinterpret_cast<float*>(shared.bytes) + threadIdx.x;
  uint32_t columns = 0;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) columns |= static_cast<uint32_t>(thread_column + j * kStep < tile.count) << j;
  columns *= 0x01010101u;
#pragma unroll
  for (int part = 0; part < kPerThread / kRows; ++part) {
    uint32_t reached = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float lowest = shared.counts.lowest[thread_row + (part * kRows + i) * kStep];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const int bit = i * kPerThread + j;
        const float score = scores[part * kRows + i][j];
        if (score >= lowest) {
          reached |= 1u << bit;
          stash[bit * kThreads] = score;
        }
      }
    }
    for (reached &= columns; reached != 0; reached &= reached - 1) {
      const int bit = __ffs(static_cast<int>(reached)) - 1;
      const int32_t query = thread_row + (part * kRows + bit / kPerThread) * kStep;
      const int32_t column = thread_column + bit % kPerThread * kStep;
      ScoreSink<kTile> sink{shared.counts, tables, tiles, tile, column, shared.counts.first[query], self_hits};
      CountInTile(stash[bit * kThreads], query, sink);
    }
  }
}

template <ElementKind kKind>
__global__ void __launch_bounds__(kThreads, kKind == ElementKind::kTf32 ? 1 : 2)  // rounding takes registers
    GenericCountKernel(Operands operands, CandidateTiles tiles, CountTables tables, RescoringQueue overflowed,
                       int64_t* status) {
  if (overflowed.length != nullptr && !overflowed.Overflowed()) return;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  SharedMemory& shared = *reinterpret_cast<SharedMemory*>(shared_bytes);
  const int32_t num_query_blocks = (tables.num_queries + kTile - 1) / kTile;
  const int32_t num_tiles = tiles.NumTiles();
  const int64_t num_items = static_cast<int64_t>(num_query_blocks) * num_tiles;
  int32_t self_hits = 0;
  for (int64_t index = blockIdx.x; index < num_items; index += gridDim.x) {
    const WorkItem item = WorkItemAt(index, num_query_blocks, num_tiles);
    const CandidateTile tile = tiles.Tile(item.tile);
    const int32_t first_query = item.query_block * kTile;
    FindRows(operands, tiles, tile, first_query, tables.num_queries, shared);
    shared.counts.Load(tables, first_query, threadIdx.x, kThreads, [] { __syncthreads(); });
    Scores scores = {};
    MultiplyTile<kKind>(operands, shared, scores);
    CountTile(scores, shared, tables, tiles, tile, self_hits);
    __syncthreads();
    shared.counts.Flush(tables, tile.group, threadIdx.x, kThreads);
    __syncthreads();
  }
  AddSelfHits(self_hits, status);
}

bool IsAligned(const void* data, int row_bytes) {
  if (row_bytes == 0) return false;  // there may be no address to copy nothing from
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && row_bytes % 16 == 0;
}

}  // namespace

void GenericCount(const CountAboveTask& task, ElementKind kind, const CandidateTiles& tiles,
                  const SortedThresholds& sorted, const RescoringQueue* only_if_overflowed,
                  const DeviceTraits& device, cudaStream_t stream) {
  const RescoringQueue overflowed = only_if_overflowed != nullptr ? *only_if_overflowed : RescoringQueue{};
  const CountTables tables = TablesOf(task, sorted);
  WithRankedKind(kind, [&]<ElementKind kKind>() {
    const int row_bytes = static_cast<int>(task.queries.width * sizeof(typename Element<kKind>::Stored));
    const Operands operands = {static_cast<const unsigned char*>(task.queries.data),
                               static_cast<const unsigned char*>(task.candidates.data), row_bytes,
                               IsAligned(task.queries.data, row_bytes) && IsAligned(task.candidates.data, row_bytes)};
    constexpr int kBytes = sizeof(SharedMemory);
    Check(cudaFuncSetAttribute(GenericCountKernel<kKind>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
          "raising the shared memory of GenericCountKernel");
    int resident = 0;
    Check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, GenericCountKernel<kKind>, kThreads, kBytes),
          "asking how many blocks of GenericCountKernel fit");
    const int64_t query_blocks = (task.queries.rows + kTile - 1) / kTile;
    const int64_t most_blocks = int64_t{resident} * device.multiprocessors;
    const unsigned blocks = BlocksFor(query_blocks * MostTiles(task, kTile), 1, most_blocks);
    GenericCountKernel<kKind><<<blocks, kThreads, kBytes, stream>>>(operands, tiles, tables, overflowed,
                                                                     task.status);
  });
  CheckLaunch("launching GenericCountKernel");
}

}  // namespace hybatch::ranking::cuda
