// Copies from device to shared memory that do not pass through registers.

#pragma once

#include <cstdint>

namespace hybatch {

// 16 bytes, of which the first `bytes` are read and the others are zeros. Both addresses are multiples of 16.
__device__ inline void CopyAsync(unsigned char* to, const unsigned char* from, int bytes) {
  const auto target = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(bytes) : "memory");
}

// Waits for all copies of this thread.
__device__ inline void CopyAsyncWait() {
  asm volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;" ::: "memory");
}

}  // namespace hybatch
