// Thresholds by the instruction sequence of hopper_count.cu: 64 queries by 256 of their positives at a time, of whose
// scores those are kept that belong together. A warpgroup per thread block.

#include "common/cuda/async_copy.cuh"
#include "common/cuda/hopper/shared_memory.cuh"
#include "hopper.cuh"

namespace hybatch::ranking::cuda {
namespace {

constexpr int kQueries = sm90::kInstructionRows;
constexpr int kPositives = sm90::kInstructionColumns;
constexpr int kThreads = 128;
constexpr int kRows = kQueries + kPositives;

struct SharedMemory {
  alignas(1024) unsigned char slab[kRows * sm90::kSlabBytes];  // queries, then positives
  const unsigned char* rows[kRows];                            // null: no such row, zeros
  int32_t first[kQueries + 1];                                 // first positive of each query, from the block's first
};
constexpr int kSharedBytes = sm90::SharedBytes<SharedMemory>();

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int kPieces = sm90::kSlabBytes / 16;  // of 16 bytes, of a row of a slab

template <ElementKind kKind>
__device__ uint4 Rounded(uint4 piece) {
  if constexpr (kKind == ElementKind::kTf32) {
    return {RoundToTf32(piece.x), RoundToTf32(piece.y), RoundToTf32(piece.z), RoundToTf32(piece.w)};
  }
  return piece;
}

// 16 bytes of a row of `row_bytes`, from byte `begin`, wherever in memory they lie; zeros past its end.
template <class Stored>
__device__ uint4 LoadPiece(const unsigned char* row, int begin, int row_bytes) {
  const auto at = [&](int e) -> uint32_t {
    const int byte = begin + e * static_cast<int>(sizeof(Stored));
    return row != nullptr && byte < row_bytes ? *reinterpret_cast<const Stored*>(row + byte) : 0u;
  };
  if constexpr (sizeof(Stored) == 4) {
    return {at(0), at(1), at(2), at(3)};
  } else {
    return {at(0) | at(1) << 16, at(2) | at(3) << 16, at(4) | at(5) << 16, at(6) | at(7) << 16};
  }
}

// Aligned rows come by asynchronous copies; what has to be rounded is rounded in place by the thread that copied it.
template <ElementKind kKind>
__device__ void LoadSlab(SharedMemory& shared, int begin, int row_bytes, bool aligned) {
  static_assert(kThreads % kPieces == 0 && kRows % (kThreads / kPieces) == 0);
  const int piece = threadIdx.x % kPieces;
  const int byte = begin + piece * 16;
  if (aligned) {
#pragma unroll 4
    for (int row = threadIdx.x / kPieces; row < kRows; row += kThreads / kPieces) {
      const unsigned char* from = shared.rows[row];
      const bool inside = from != nullptr && byte < row_bytes;
      // Where nothing is read, the address is that of a row that exists.
      CopyAsync(shared.slab + sm90::SwizzledOffset(row, piece), inside ? from + byte : shared.rows[0], inside ? 16 : 0);
    }
    CopyAsyncWait();
    if constexpr (kKind != ElementKind::kTf32) return;
  }
#pragma unroll 4
  for (int row = threadIdx.x / kPieces; row < kRows; row += kThreads / kPieces) {
    uint4* to = reinterpret_cast<uint4*>(shared.slab + sm90::SwizzledOffset(row, piece));
    *to = Rounded<kKind>(
        aligned ? *to : LoadPiece<typename Element<kKind>::Stored>(shared.rows[row], byte, row_bytes));
  }
}

__device__ void FindPositives(const PairScoresTask& task, int64_t first_positive, int64_t end, int row_bytes,
                              SharedMemory& shared) {
  for (int i = threadIdx.x; i < kPositives; i += kThreads) {
    const int64_t p = first_positive + i;
    const unsigned char* row = nullptr;
    if (p < end) {
      const int64_t index = task.rows != nullptr ? task.rows[p] : p;
      if (index >= 0 && index < task.embeddings.rows) {
        row = static_cast<const unsigned char*>(task.embeddings.data) + index * row_bytes;
      }
    }
    shared.rows[kQueries + i] = row;
  }
}

// Adds nothing up: every score of the block's 64 x 256 that belongs to a pair is written.
__device__ void WriteScores(const sm90::Accumulator& scores, const PairScoresTask& task, int64_t block_base,
                            int32_t chunk, const SharedMemory& shared) {
  const int thread = threadIdx.x;
#pragma unroll
  for (int i = 0; i < sm90::kAccumulators; ++i) {
    const int query = sm90::AccumulatorRow(thread, i);
    const int column = sm90::AccumulatorColumn(thread, i);
    const int32_t position = chunk + column;
    if (position < shared.first[query] || position >= shared.first[query + 1]) continue;
    const bool exists = shared.rows[kQueries + column] != nullptr;
    task.scores[block_base + position] = exists ? scores[i] : __int_as_float(0x7fffffff);
  }
}

template <ElementKind kKind>
__device__ void ScoreChunk(const PairScoresTask& task, int64_t block_base, int32_t chunk, int row_bytes, bool aligned,
                           SharedMemory& shared) {
  FindPositives(task, block_base + chunk, block_base + shared.first[kQueries], row_bytes, shared);
  __syncthreads();
  sm90::Accumulator scores;
#pragma unroll
  for (int i = 0; i < sm90::kAccumulators; ++i) scores[i] = 0;
#pragma unroll 1
  for (int begin = 0; begin < row_bytes; begin += sm90::kSlabBytes) {
    LoadSlab<kKind>(shared, begin, row_bytes, aligned);
    sm90::FenceStoresForTensorCores();
    __syncthreads();
    sm90::Pin(scores);
    sm90::ProductsBegin();
    sm90::MultiplySlab<kKind>(scores, shared.slab, shared.slab + kQueries * sm90::kSlabBytes, begin == 0);
    sm90::ProductsCommit();
    sm90::ProductsWait<0>();
    sm90::Pin(scores);
    __syncthreads();
  }
  WriteScores(scores, task, block_base, chunk, shared);
  __syncthreads();
}

#endif

template <ElementKind kKind>
__global__ void __launch_bounds__(kThreads)
    HopperPairScoresKernel(const PairScoresTask task, const int row_bytes, const bool aligned) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char shared_bytes[];
  SharedMemory& shared = sm90::AlignShared<SharedMemory>(shared_bytes);
  const int64_t first_query = static_cast<int64_t>(blockIdx.x) * kQueries;
  const int64_t block_base = task.offsets[first_query];
  for (int i = threadIdx.x; i <= kQueries; i += kThreads) {
    const int64_t query = min(first_query + i, task.queries.rows);
    shared.first[i] = static_cast<int32_t>(task.offsets[query] - block_base);
    if (i == kQueries) continue;
    const auto* data = static_cast<const unsigned char*>(task.queries.data);
    shared.rows[i] = first_query + i < task.queries.rows ? data + (first_query + i) * row_bytes : nullptr;
  }
  __syncthreads();
  const int32_t step = static_cast<int32_t>(gridDim.y) * kPositives;
  for (int32_t chunk = static_cast<int32_t>(blockIdx.y) * kPositives; chunk < shared.first[kQueries]; chunk += step) {
    ScoreChunk<kKind>(task, block_base, chunk, row_bytes, aligned, shared);
  }
#endif
}

bool IsAligned(const Matrix& matrix, int row_bytes) {
  return reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 && row_bytes % 16 == 0;
}

template <ElementKind kKind>
void Launch(const PairScoresTask& task, cudaStream_t stream) {
  Check(cudaFuncSetAttribute(HopperPairScoresKernel<kKind>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
        "raising the shared memory of HopperPairScoresKernel");
  const auto row_bytes = static_cast<int>(task.queries.width * sizeof(typename Element<kKind>::Stored));
  const bool aligned = IsAligned(task.queries, row_bytes) && IsAligned(task.embeddings, row_bytes);
  const dim3 blocks(static_cast<unsigned>((task.queries.rows + kQueries - 1) / kQueries), 4);
  HopperPairScoresKernel<kKind><<<blocks, kThreads, kSharedBytes, stream>>>(task, row_bytes, aligned);
  CheckLaunch("launching HopperPairScoresKernel");
}

}  // namespace

void HopperPairScores(const PairScoresTask& task, ElementKind kind, cudaStream_t stream) {
  if (kind == ElementKind::kBFloat16) Launch<ElementKind::kBFloat16>(task, stream);
  if (kind == ElementKind::kFloat16) Launch<ElementKind::kFloat16>(task, stream);
  if (kind == ElementKind::kTf32) Launch<ElementKind::kTf32>(task, stream);
}

}  // namespace hybatch::ranking::cuda
