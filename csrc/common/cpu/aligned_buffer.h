// Uninitialised floats at a cache line's boundary, as the kernels' aligned loads need them.

#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace hybatch {

constexpr std::align_val_t kCacheLine{64};

struct AlignedDelete {
  void operator()(float* pointer) const { ::operator delete(pointer, kCacheLine); }
};

using AlignedBuffer = std::unique_ptr<float[], AlignedDelete>;

inline AlignedBuffer MakeAlignedBuffer(std::size_t count) {
  return AlignedBuffer(static_cast<float*>(::operator new(count * sizeof(float), kCacheLine)));
}

}  // namespace hybatch
