// Where things lie on the tensor-core path: slabs in shared memory, scores in registers. Host code can test it.

#pragma once

#include <cstdint>

#include "host_device.h"

namespace hybatch::ranking::cuda::sm90 {

constexpr int kSlabBytes = 128;      // of a row, in shared memory at a time
constexpr int kStepBytes = 32;       // of a row, consumed by one instruction
constexpr int kInstructionRows = 64;      // queries of one instruction
constexpr int kInstructionColumns = 256;  // candidates of one instruction
constexpr int kAccumulators = kInstructionRows * kInstructionColumns / 128;

// Byte of a slab at which the 16-byte piece `piece` of a row lies: 128-byte swizzle, on a slab aligned to 1024 bytes.
HYBATCH_HD inline int SwizzledOffset(int row, int piece) { return row * kSlabBytes + ((piece ^ (row % 8)) * 16); }

// A slab as a matrix operand with contiguous rows: its address in units of 16 bytes, 1024 bytes from one group of
// 8 rows to the next, 128-byte swizzle. The next 32 bytes of every row are two units further.
HYBATCH_HD inline uint64_t MatrixDescriptor(uint32_t shared_address) {
  constexpr uint64_t kLeadingBytes = 16;  // not used with this swizzle
  constexpr uint64_t kStrideBytes = 1024;
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>((shared_address & 0x3ffffu) >> 4) | (kLeadingBytes >> 4) << 16 |
         (kStrideBytes >> 4) << 32 | kSwizzle128 << 62;
}

// Row, among the instruction's 64, and column, among its 256, of a thread's accumulator; thread in [0, 128).
HYBATCH_HD inline int AccumulatorRow(int thread, int accumulator) {
  return thread / 32 * 16 + thread % 32 / 4 + (accumulator / 2 % 2) * 8;
}
HYBATCH_HD inline int AccumulatorColumn(int thread, int accumulator) {
  return accumulator / 4 * 8 + thread % 4 * 2 + accumulator % 2;
}

// Scores are looked at in parts of 16 accumulators, which lie in 32 columns.
constexpr int kPart = 16;
constexpr int kPartColumns = 32;

// Bit i: accumulator part * kPart + i lies in one of the first `count` columns.
HYBATCH_HD inline uint32_t ColumnsInUse(int thread, int part, int count) {
  const int rest = count - part * kPartColumns - thread % 4 * 2;
  if (rest <= 0) return 0;
  if (rest >= kPartColumns) return (1u << kPart) - 1;
  const int whole = (rest + 6) / 8;  // groups of 8 columns of which this thread's two are both in use
  uint32_t mask = (1u << (4 * whole)) - 1;
  if (rest % 8 == 1) mask |= 0x5u << (4 * (rest / 8));
  return mask;
}

}  // namespace hybatch::ranking::cuda::sm90
