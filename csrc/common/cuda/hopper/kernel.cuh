// The shell of every kernel that multiplies tiles by the ring of tiles.cuh: how a thread block begins, who copies, who
// multiplies, and how it is launched. Which tiles these are, and what becomes of their products, a `Work` says:
//
//   kName                          of the kernel, for messages
//   kKind, kLeft, kRight           of its base class Operands
//   Task                           what the kernel is called with, by value
//   Shared                         its shared memory, with a member `stages` before all others and one `barriers`
//   ForEachTile(task, visit)       calls visit(TileSlabs) for each of the block's tiles; the one thread that copies
//   Consume(task, consumer, shared)  multiplies the same tiles in the same order; all threads that multiply

#pragma once

#include <string>

#include "common/cuda/runtime.h"
#include "shared_memory.cuh"
#include "tiles.cuh"

namespace hybatch::sm90 {

// A tile of the result, and the slabs of terms that it is the sum of.
struct TileSlabs {
  int32_t row_tile;
  int32_t column_tile;
  int32_t first;
  int32_t end;
};

// The elements of both operands, and how these lie in memory.
template <ElementKind kElements, Major kLeftOperand = Major::kTerms, Major kRightOperand = Major::kTerms>
struct Operands {
  static constexpr ElementKind kKind = kElements;
  static constexpr Major kLeft = kLeftOperand, kRight = kRightOperand;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Registers of a thread: compiled for a third of the block's each, of which the warpgroup that copies needs few.
constexpr int kProducerRegisters = 40;
constexpr int kConsumerRegisters = 232;

// One of the threads that multiply, and how far it has come in the ring.
template <class Work>
struct Consumer {
  const Ring& ring;
  int group;   // its warpgroup, 0 or 1
  int thread;  // of the warpgroup's
  RingPlace place;

  __device__ explicit Consumer(const Ring& ring) : ring(ring) {
    const int index = static_cast<int>(threadIdx.x) - kWarpgroup;
    group = index / kWarpgroup;
    thread = index % kWarpgroup;
  }

  __device__ void MultiplyTile(int32_t num_slabs, Accumulator& results) {
    sm90::MultiplyTile<Work::kKind, Work::kLeft, Work::kRight>(num_slabs, group, place, ring, results);
  }
};

template <class Work>
__device__ void Produce(const CUtensorMap& left, const CUtensorMap& right, const typename Work::Task& task,
                        const Ring& ring) {
  constexpr int kTerms = kSlabBytes / ElementBytes(Work::kKind);
  RingPlace place;
  Work::ForEachTile(task, [&](const TileSlabs& tile) {
    for (int32_t slab = tile.first; slab < tile.end; ++slab) {
      FillStage<Work::kLeft, Work::kRight>(left, right, tile.row_tile * kTileRows, tile.column_tile * kTileColumns,
                                           slab * kTerms, place, ring);
    }
  });
}

#endif

template <class Work>
__global__ void __launch_bounds__(kThreads, 1)
    TileKernel(const __grid_constant__ CUtensorMap left, const __grid_constant__ CUtensorMap right,
               const typename Work::Task task) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char shared_bytes[];
  auto& shared = AlignShared<typename Work::Shared>(shared_bytes);
  const Ring ring = {shared.stages, shared.barriers};
  InitRing(ring.barriers);
  if (threadIdx.x < kWarpgroup) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) Produce<Work>(left, right, task, ring);
  } else {
    TakeRegisters<kConsumerRegisters>();
    Consumer<Work> consumer(ring);
    Work::Consume(task, consumer, shared);
  }
#endif
}

// The maps' boxes are those of FillStage.
template <class Work>
void LaunchTiles(unsigned blocks, const CUtensorMap& left, const CUtensorMap& right,
                 const typename Work::Task& task, cudaStream_t stream) {
  constexpr auto kKernel = TileKernel<Work>;
  constexpr int kBytes = SharedBytes<typename Work::Shared>();
  const std::string name = Work::kName;
  Check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
        ("raising the shared memory of " + name).c_str());
  kKernel<<<blocks, kThreads, kBytes, stream>>>(left, right, task);
  CheckLaunch(("launching " + name).c_str());
}

}  // namespace hybatch::sm90
