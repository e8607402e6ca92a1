// Shared memory whose parts begin where the swizzle wants them.

#pragma once

#include "instructions.cuh"

namespace hybatch::sm90 {

constexpr int kMostSharedBytes = 227 * 1024;

// Of a kernel's shared memory, with room to align it.
template <class Shared>
constexpr int SharedBytes() {
  static_assert(sizeof(Shared) + 1024 <= kMostSharedBytes);
  return static_cast<int>(sizeof(Shared)) + 1024;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

template <class Shared>
__device__ Shared& AlignShared(unsigned char* bytes) {
  const uint32_t misaligned = SharedAddress(bytes) % 1024;
  return *reinterpret_cast<Shared*>(bytes + (misaligned == 0 ? 0 : 1024 - misaligned));
}

#endif

}  // namespace hybatch::sm90
