// The PTX instructions that the kernels are written with, as functions of their operands; translate.py says which text
// is which function.

#pragma once

#include <cstddef>
#include <cstdint>

namespace device_model {

// What lanes of a warp do together. They must be all 32, and in the same one.
enum class Collective {
  kSync, kShuffle, kShuffleUp, kShuffleDown, kShuffleXor, kMatchAny, kAny, kAll, kReduceAdd, kReduceMax,
  kProductFence, kProduct, kProductCommit, kProductWait, kSetMaxRegisters
};

// The values of all lanes; valid until this lane's next collective.
const uint64_t* Exchange(Collective collective, unsigned mask, uint64_t value);

// In the window of shared memory, where 1024-byte boundaries are those of the swizzle.
uint32_t SharedAddress(const void* pointer);

}  // namespace device_model

namespace device_model::ptx {

inline void CompilerFence() {}
inline void Pin(float&) {}

void BarSync(int barrier, int threads);
inline void BarSync1(int threads) { BarSync(1, threads); }
void BarRedOr(int& any, int value, int barrier, int threads);

void MbarrierInit(uint32_t barrier, int arrivals);
void FenceMbarrierInit();
void MbarrierArrive(uint32_t barrier);
void MbarrierArriveExpectTx(uint32_t barrier, int bytes);
void MbarrierWaitParity(uint32_t barrier, uint32_t parity);

void BulkTensorCopy2d(uint32_t to, const void* map, uint32_t barrier, int element, int row);
void CpAsync16(uint32_t to, const void* from, int bytes);
void CpAsyncWaitAll();
void PrefetchGlobal(const void* address);

void FenceProxyAsync();
void WgmmaFence();
void WgmmaCommitGroup();
void WgmmaWaitGroup(int pending);
using Accumulators = float[128];
void WgmmaBf16(Accumulators& results, uint64_t left, uint64_t right, int accumulate, int left_turned, int right_turned);
void WgmmaF16(Accumulators& results, uint64_t left, uint64_t right, int accumulate, int left_turned, int right_turned);
void WgmmaTf32(Accumulators& results, uint64_t left, uint64_t right, int accumulate);

void SetMaxRegisters(int registers);

void CvtF32F16(float& value, uint16_t bits);
void Ex2ApproxFtz(float& result, float exponent);
void CvtRnBf16x2(uint32_t& pair, float upper, float lower);
void CvtRnF16x2(uint32_t& pair, float upper, float lower);

}  // namespace device_model::ptx
