// Products of 128 x 256 tiles by a persistent thread block of three warpgroups. One thread of the first copies slabs of
// both operands into a ring of stages; the other two warpgroups multiply 64 lines of the left operand each by the 256
// of the right one, and deal with the results in their registers while the ring fills up again.

#pragma once

#include "instructions.cuh"

namespace hybatch::sm90 {

constexpr int kTileRows = 128;
constexpr int kTileColumns = kInstructionColumns;
constexpr int kStages = 4;
constexpr int kWarpgroup = 128;
constexpr int kConsumerGroups = kTileRows / kInstructionRows;
constexpr int kConsumers = kConsumerGroups * kWarpgroup;
constexpr int kThreads = kWarpgroup + kConsumers;
constexpr int kLeftBytes = kTileRows * kSlabBytes;
constexpr int kStageBytes = kLeftBytes + kTileColumns * kSlabBytes;

// A kernel's shared memory begins with the stages, and holds the barriers wherever there is room.
struct Stages {
  alignas(1024) unsigned char bytes[kStages][kStageBytes];
};
struct StageBarriers {
  uint64_t full[kStages];
  uint64_t empty[kStages];
};
struct Ring {
  Stages& stages;
  StageBarriers& barriers;
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

// Every thread of the block calls it.
__device__ inline void InitRing(StageBarriers& barriers) {
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      InitBarrier(&barriers.full[stage], 1);
      InitBarrier(&barriers.empty[stage], kConsumers / 32);
    }
    FenceBarrierInit();
  }
  __syncthreads();
}

// Waits until the threads of one warpgroup have come here, or those of both that multiply.
__device__ inline void GroupBarrier(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kWarpgroup) : "memory");
}
__device__ inline void ConsumerBarrier() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory"); }

// As GroupBarrier; true if `value` is for any of its threads.
__device__ inline bool GroupBarrierAny(int group, bool value) {
  int any;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.s32 p, %1, 0;\nbar.red.or.pred q, %2, %3, p;\nselp.s32 %0, 1, 0, q;\n}"
      : "=r"(any)
      : "r"(static_cast<int>(value)), "r"(1 + group), "n"(kWarpgroup)
      : "memory");
  return any != 0;
}

// A slab of an operand. The map's boxes hold kLines rows where terms are neighbours, else as many as a slab has terms.
template <Major kMajor, int kLines>
__device__ void CopySlab(unsigned char* to, const CUtensorMap& map, uint64_t* full, int first_line, int first_term) {
  if constexpr (kMajor == Major::kTerms) {
    CopyBox(to, &map, full, first_term, first_line);
  } else {
#pragma unroll
    for (int box = 0; box < kLines / kInstructionRows; ++box) {
      CopyBox(to + box * kBoxBytes, &map, full, first_line + box * kInstructionRows, first_term);
    }
  }
}

// Terms first_term .. of the tile at (first_row, first_column), by the one thread that copies.
template <Major kLeft = Major::kTerms, Major kRight = Major::kTerms>
__device__ void FillStage(const CUtensorMap& left, const CUtensorMap& right, int first_row, int first_column,
                          int first_term, RingPlace& place, const Ring& ring) {
  Wait(&ring.barriers.empty[place.stage], place.parity ^ 1);  // passes at once in the first round
  uint64_t* full = &ring.barriers.full[place.stage];
  unsigned char* stage = ring.stages.bytes[place.stage];
  ArriveExpecting(full, kStageBytes);
  CopySlab<kLeft, kTileRows>(stage, left, full, first_row, first_term);
  CopySlab<kRight, kTileColumns>(stage + kLeftBytes, right, full, first_column, first_term);
  place.Advance();
}

// The results of one warpgroup, 0 or 1 of those that multiply, from the next num_slabs stages.
template <ElementKind kKind, Major kLeft = Major::kTerms, Major kRight = Major::kTerms>
__device__ void MultiplyTile(int32_t num_slabs, int group, RingPlace& place, const Ring& ring, Accumulator& results) {
  const int left_offset = group * kInstructionRows * kSlabBytes;
  const bool signals = threadIdx.x % 32 == 0;
  int previous = -1;
#pragma unroll
  for (int i = 0; i < kAccumulators; ++i) results[i] = 0;
  Pin(results);
  for (int32_t slab = 0; slab < num_slabs; ++slab) {
    Wait(&ring.barriers.full[place.stage], place.parity);
    const unsigned char* stage = ring.stages.bytes[place.stage];
    ProductsBegin();
    MultiplySlab<kKind, kLeft, kRight>(results, stage + left_offset, stage + kLeftBytes, slab == 0);
    ProductsCommit();
    ProductsWait<1>();  // the slab before has been read
    if (previous >= 0 && signals) Arrive(&ring.barriers.empty[previous]);
    previous = place.stage;
    place.Advance();
  }
  ProductsWait<0>();
  Pin(results);
  if (previous >= 0 && signals) Arrive(&ring.barriers.empty[previous]);
}

#endif

}  // namespace hybatch::sm90
