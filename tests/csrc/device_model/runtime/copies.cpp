// mbarriers, and copies that are under way while their thread goes on.

#include <cuda.h>

#include "block.h"
#include "watch.h"

#ifdef DEVICE_MODEL_THREAD_SANITIZER
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
}
#endif

namespace device_model {
namespace {

constexpr uint32_t kMagic = 0x7e504a9u;
constexpr uint64_t kMbarrierWord = 0x6d62617272696572;  // in memory where an mbarrier is, so that stores to it are seen
constexpr int64_t kMostBytes = (1 << 20) - 1;

// While it lives, what is done is the copy engine's doing, not the running thread's.
class AsEngine {
 public:
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  AsEngine() : before_(__tsan_get_current_fiber()) {
    static void* const engine = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(engine, 1);
  }
  ~AsEngine() { __tsan_switch_to_fiber(before_, 1); }

 private:
  void* before_;
#else
  AsEngine() {}  // NOLINT: not trivial above
#endif
};

void EndPhaseIfComplete(Mbarrier& mbarrier) {
  if (mbarrier.pending < 0) Fail("an mbarrier has more arrivals in a phase than it was initialised for");
  if (mbarrier.bytes > kMostBytes) Fail("an mbarrier expects more bytes than it can count");
  if (mbarrier.pending > 0 || mbarrier.bytes != 0) return;
  mbarrier.parity ^= 1;
  mbarrier.pending = mbarrier.expected;
  block->Wake(mbarrier.waiting);
}

uint32_t Swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

void Fetch(const PendingFetch& fetch) {
  unsigned char piece[16] = {};
  Writes(fetch.to, sizeof piece);
  if (fetch.bytes > 0) {
    Reads(fetch.from, static_cast<size_t>(fetch.bytes));
    std::memcpy(piece, fetch.from, static_cast<size_t>(fetch.bytes));
  }
  std::memcpy(fetch.to, piece, sizeof piece);
}

}  // namespace

void Block::AddMbarrier(uint32_t address, int arrivals) {
  if (address % 8 != 0 || arrivals <= 0) Fail("mbarrier.init of " + std::to_string(arrivals) + " arrivals");
  std::memcpy(At(address, sizeof kMbarrierWord), &kMbarrierWord, sizeof kMbarrierWord);
  mbarriers_[address] = {arrivals, arrivals, 0, 0, {}};
  mbarriers_fenced_ = false;
}

Mbarrier& Block::mbarrier(uint32_t address) {
  const auto found = mbarriers_.find(address);
  if (found == mbarriers_.end()) Fail("an mbarrier is used that was not initialised");
  if (std::memcmp(At(address, sizeof kMbarrierWord), &kMbarrierWord, sizeof kMbarrierWord) != 0) {
    Fail("an mbarrier has been overwritten");
  }
  return found->second;
}

void Block::Enqueue(const BulkCopy& copy) {
  if (!mbarriers_fenced_) Fail("a bulk copy is issued before fence.mbarrier_init");
  Release(&mbarrier(copy.barrier).pending);
  if (manners_.copies == Manners::Copies::kAtOnce) {
    RunCopy(copy);
  } else {
    copies_.push_back(copy);
  }
}

void Block::RunSomeCopy() {
  std::swap(copies_[random_.Below(copies_.size())], copies_.back());
  const BulkCopy copy = copies_.back();
  copies_.pop_back();
  RunCopy(copy);
}

// Pieces of 16 bytes, which the swizzle moves as wholes; what lies outside the matrix is zeros.
void Block::RunCopy(const BulkCopy& copy) {
  const TensorMap& map = copy.map;
  const uint32_t row_bytes = map.box_columns * map.element_bytes;
  {
    const AsEngine engine;
    Acquire(&mbarrier(copy.barrier).pending);
    for (uint32_t row = 0; row < map.box_rows; ++row) {
      const int64_t y = int64_t{copy.row} + row;
      for (uint32_t byte = 0; byte < row_bytes; byte += 16) {
        unsigned char piece[16] = {};
        for (uint32_t at = 0; at < 16; at += map.element_bytes) {
          const int64_t x = int64_t{copy.column} + (byte + at) / map.element_bytes;
          if (x < 0 || y < 0 || x >= int64_t(map.columns) || y >= int64_t(map.rows)) continue;
          const unsigned char* from = map.data + uint64_t(y) * map.row_bytes + uint64_t(x) * map.element_bytes;
          Reads(from, map.element_bytes);
          std::memcpy(piece + at, from, map.element_bytes);
        }
        const uint32_t to = Swizzled(copy.to + row * row_bytes + byte);
        Writes(At(to, sizeof piece), sizeof piece);
        WriteBoth(to, piece, sizeof piece);
      }
    }
    Release(&mbarrier(copy.barrier));
  }
  Mbarrier& mbarrier_of_copy = mbarrier(copy.barrier);
  mbarrier_of_copy.bytes -= int64_t{row_bytes} * map.box_rows;
  if (mbarrier_of_copy.bytes < 0) Fail("a bulk copy brings more bytes than its mbarrier expects");
  EndPhaseIfComplete(mbarrier_of_copy);
}

namespace ptx {

void MbarrierInit(uint32_t barrier, int arrivals) {
  const Unwatched unwatched;
  block->AddMbarrier(barrier, arrivals);
}

void FenceMbarrierInit() { block->mbarriers_fenced_ = true; }

void MbarrierArrive(uint32_t barrier) { MbarrierArriveExpectTx(barrier, 0); }

void MbarrierArriveExpectTx(uint32_t barrier, int bytes) {
  const Unwatched unwatched;
  Mbarrier& mbarrier = block->mbarrier(barrier);
  Release(&mbarrier);
  mbarrier.bytes += bytes;
  --mbarrier.pending;
  EndPhaseIfComplete(mbarrier);
}

void MbarrierWaitParity(uint32_t barrier, uint32_t parity) {
  const Unwatched unwatched;
  if (parity > 1) Fail("an mbarrier's parity is 0 or 1");
  Mbarrier& mbarrier = block->mbarrier(barrier);
  while (mbarrier.parity == parity) block->Wait(mbarrier.waiting, "an mbarrier");
  Acquire(&mbarrier);
}

void BulkTensorCopy2d(uint32_t to, const void* map, uint32_t barrier, int element, int row) {
  const Unwatched unwatched;
  BulkCopy copy = {to, {}, barrier, element, row};
  std::memcpy(&copy.map, map, sizeof copy.map);
  if (copy.map.magic != kMagic) Fail("a bulk copy is given something that is no tensor map");
  if (to % 1024 != 0) Fail("a bulk copy with the 128-byte swizzle goes to an address that is no multiple of 1024");
  block->Enqueue(copy);
}

void CpAsync16(uint32_t to, const void* from, int bytes) {
  const Unwatched unwatched;
  if (bytes < 0 || bytes > 16) Fail("cp.async of " + std::to_string(bytes) + " bytes");
  if (from == nullptr) Fail("cp.async from no address");
  if (to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0) Fail("cp.async of an address that is not aligned");
  const PendingFetch fetch = {block->At(to, 16), from, bytes};
  if (block->manners().fetches_at_once) {
    Fetch(fetch);
  } else {
    block->running().fetches.push_back(fetch);
  }
}

void CpAsyncWaitAll() {
  const Unwatched unwatched;
  for (const PendingFetch& fetch : block->running().fetches) Fetch(fetch);
  block->running().fetches.clear();
}

void PrefetchGlobal(const void* address) { (void)*static_cast<const volatile char*>(address); }

void FenceProxyAsync() {
  const Unwatched unwatched;
  block->FenceForProxy();
}

}  // namespace ptx
}  // namespace device_model

// What the driver's documentation demands of a tiled map with two dimensions.
CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const uint32_t element_bytes = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT32 ? 4 : 2;
  bool valid = rank == 2 && reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (int i = 0; i < 2; ++i) {
    valid = valid && sizes[i] > 0 && sizes[i] <= uint64_t{1} << 32 && box[i] > 0 && box[i] <= 256;
    valid = valid && element_strides[i] == 1;
  }
  valid = valid && strides[0] % 16 == 0 && strides[0] < uint64_t{1} << 40 && strides[0] >= sizes[0] * element_bytes;
  valid = valid && box[0] * element_bytes % 16 == 0 && box[0] * element_bytes <= 128;
  if (!valid || swizzle != CU_TENSOR_MAP_SWIZZLE_128B) return CUDA_ERROR_INVALID_VALUE;
  const device_model::TensorMap encoded = {static_cast<const unsigned char*>(data), sizes[0], sizes[1], strides[0],
                                           box[0], box[1], element_bytes, device_model::kMagic};
  static_assert(sizeof encoded <= sizeof *map);
  std::memcpy(map, &encoded, sizeof encoded);
  return CUDA_SUCCESS;
}
