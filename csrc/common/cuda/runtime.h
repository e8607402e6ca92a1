// CUDA runtime calls that fail become exceptions that say what was being done.

#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace hybatch {

inline void Check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA failed while ") + doing + ": " + cudaGetErrorName(error) + ", " +
                           cudaGetErrorString(error));
}

inline void CheckLaunch(const char* doing) { Check(cudaGetLastError(), doing); }

inline unsigned BlocksFor(int64_t items, int64_t per_block, int64_t most = 1 << 16) {
  const int64_t blocks = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

// Pieces of one allocation, each aligned to 256 bytes. Built on null, it only measures.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* Take(int64_t count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return piece;
  }

  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

}  // namespace hybatch
