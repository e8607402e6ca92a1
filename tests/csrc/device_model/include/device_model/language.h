// What nvcc's language has beyond C++, as far as the kernels use it. Every translated file sees this header first.

#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "device_model/instructions.h"

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __CUDA_ARCH_FEAT_SM90_ALL 1
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}  // NOLINT: CUDA's is implicit
};

namespace device_model {

struct ThreadPlace {
  dim3 thread, block, block_size, grid_size;
};
extern const ThreadPlace* place;  // of the thread that runs

// Runs the kernel to its end. A configuration that a device would refuse becomes the last error; a kernel that does
// what it must not throws std::runtime_error.
void Launch(const void* kernel, const char* name, dim3 grid, dim3 block, size_t shared_bytes, const void* stream,
            const std::function<void()>& body);

unsigned char* DynamicShared();
void* StaticSharedBytes(const void* key, size_t bytes);
template <class T>
T& StaticShared(const void* key) {
  return *static_cast<T*>(StaticSharedBytes(key, sizeof(T)));
}

// Nobody may touch what lies behind the piece of a workspace, up to `used` bytes of it. A null base is only measured.
void Forbid(void* piece, size_t bytes, void* base, size_t used);

template <class T>
T Shuffle(Collective collective, unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const uint64_t received = Exchange(collective, mask, bits)[source];
  std::memcpy(&value, &received, sizeof value);
  return value;
}

inline int Lane() { return static_cast<int>(place->thread.x % 32); }

}  // namespace device_model

#define threadIdx (::device_model::place->thread)
#define blockIdx (::device_model::place->block)
#define blockDim (::device_model::place->block_size)
#define gridDim (::device_model::place->grid_size)

inline void __syncthreads() { device_model::ptx::BarSync(0, static_cast<int>(blockDim.x * blockDim.y * blockDim.z)); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  device_model::Exchange(device_model::Collective::kSync, mask, 0);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  const int first = device_model::Lane() / width * width;
  return device_model::Shuffle(device_model::Collective::kShuffle, mask, value, first + lane % width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int own = device_model::Lane(), from = own - static_cast<int>(distance);
  const int source = from < own / width * width ? own : from;
  return device_model::Shuffle(device_model::Collective::kShuffleUp, mask, value, source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int own = device_model::Lane(), from = own + static_cast<int>(distance);
  const int source = from >= (own / width + 1) * width ? own : from;
  return device_model::Shuffle(device_model::Collective::kShuffleDown, mask, value, source);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
  const int own = device_model::Lane(), from = own ^ with;
  const int source = from / width > own / width ? own : from;
  return device_model::Shuffle(device_model::Collective::kShuffleXor, mask, value, source);
}

inline unsigned __match_any_sync(unsigned mask, int value) {
  const auto own = static_cast<uint32_t>(value);
  const uint64_t* all = device_model::Exchange(device_model::Collective::kMatchAny, mask, own);
  unsigned equal = 0;
  for (int lane = 0; lane < 32; ++lane) equal |= static_cast<unsigned>(all[lane] == own) << lane;
  return equal;
}
inline int __any_sync(unsigned mask, int value) {
  const uint64_t* all = device_model::Exchange(device_model::Collective::kAny, mask, value != 0);
  return std::any_of(all, all + 32, [](uint64_t flag) { return flag != 0; });
}
inline int __all_sync(unsigned mask, int value) {
  const uint64_t* all = device_model::Exchange(device_model::Collective::kAll, mask, value != 0);
  return std::all_of(all, all + 32, [](uint64_t flag) { return flag != 0; });
}
inline int __reduce_add_sync(unsigned mask, int value) {
  const auto own = static_cast<uint32_t>(value);
  const uint64_t* all = device_model::Exchange(device_model::Collective::kReduceAdd, mask, own);
  uint32_t sum = 0;
  for (int lane = 0; lane < 32; ++lane) sum += static_cast<uint32_t>(all[lane]);
  return static_cast<int>(sum);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  const uint64_t* all = device_model::Exchange(device_model::Collective::kReduceMax, mask, value);
  return static_cast<unsigned>(*std::max_element(all, all + 32));
}

template <class T, class V>
T atomicAdd(T* at, V value) {
  return __atomic_fetch_add(at, static_cast<T>(value), __ATOMIC_RELAXED);
}
template <class T, class V>
T atomicMax(T* at, V value) {
  T before = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (before < static_cast<T>(value) &&
         !__atomic_compare_exchange_n(at, &before, static_cast<T>(value), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}

inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __dp4a(int a, int b, int sum) {
  for (int byte = 0; byte < 32; byte += 8) sum += static_cast<int8_t>(a >> byte) * static_cast<int8_t>(b >> byte);
  return sum;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
float __fsub_rd(float a, float b);
float __fadd_ru(float a, float b);
float __double2float_ru(double value);
inline size_t __cvta_generic_to_shared(const void* pointer) { return device_model::SharedAddress(pointer); }

template <class A, class B>
std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B>
std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
using std::isfinite;

#include "device_model/runtime_api.h"
