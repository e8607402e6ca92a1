// Where things lie on the tensor-core paths: slabs in shared memory, results in registers. Host code can test it.

#pragma once

#include <cstdint>

#include "common/cuda/host_device.h"

namespace hybatch::sm90 {

constexpr int kSlabBytes = 128;      // of a row, in shared memory at a time
constexpr int kStepBytes = 32;       // of a row, consumed by one instruction
constexpr int kInstructionRows = 64;      // queries of one instruction
constexpr int kInstructionColumns = 256;  // candidates of one instruction
constexpr int kAccumulators = kInstructionRows * kInstructionColumns / 128;

// Byte of a slab at which the 16-byte piece `piece` of a row lies: 128-byte swizzle, on a slab aligned to 1024 bytes.
HYBATCH_HD inline int SwizzledOffset(int row, int piece) { return row * kSlabBytes + ((piece ^ (row % 8)) * 16); }

// How an operand lies in memory. A slab with neighbouring terms is `lines` rows of 128 bytes, one per line of the
// operand. With neighbouring lines it is boxes of 64 rows of 128 bytes, one row per term, and each box holds the next
// 64 lines of an operand of 2-byte elements.
enum class Major { kTerms, kLines };

constexpr int kTermsOfSlab = kSlabBytes / 2;          // of 2-byte elements
constexpr int kBoxBytes = kTermsOfSlab * kSlabBytes;  // of one box of 64 lines by 64 terms
static_assert(kBoxBytes == kInstructionRows * kSlabBytes);  // 64 lines take up the same room in both ways

// A slab as a matrix operand: its address in units of 16 bytes, 128-byte swizzle, 1024 bytes from one group of 8 rows
// to the next, and where lines are neighbours the distance from box to box.
HYBATCH_HD inline uint64_t Descriptor(uint32_t shared_address, Major major) {
  const uint64_t box_distance = major == Major::kLines ? kBoxBytes : 16;  // otherwise not used with this swizzle
  constexpr uint64_t kStrideBytes = 1024;
  constexpr uint64_t kSwizzle128 = 1;
  return static_cast<uint64_t>((shared_address & 0x3ffffu) >> 4) | (box_distance >> 4) << 16 |
         (kStrideBytes >> 4) << 32 | kSwizzle128 << 62;
}

// From one instruction's terms to the next's, in the descriptor's units: 32 bytes along every row, or 16 whole rows.
HYBATCH_HD constexpr uint64_t StepUnits(Major major) {
  return (major == Major::kTerms ? kStepBytes : kStepBytes / 2 * kSlabBytes) / 16;
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

}  // namespace hybatch::sm90
