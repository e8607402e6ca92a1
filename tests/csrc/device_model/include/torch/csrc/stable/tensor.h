// Tensors in the model's memory: contiguous, and where they end nothing else begins.

#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace torch::stable {

using headeronly::ScalarType;

class Memory {
 public:
  // Begins `misalignment` bytes after a multiple of 256.
  Memory(size_t bytes, size_t misalignment);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* allocation_;
  void* data_;
  size_t bytes_;
};

class Tensor {
 public:
  Tensor(std::vector<int64_t> sizes, ScalarType type, size_t misalignment = 0);

  ScalarType scalar_type() const { return type_; }
  int64_t dim() const { return static_cast<int64_t>(sizes_.size()); }
  int64_t size(int64_t dim) const { return sizes_.at(static_cast<size_t>(dim)); }
  int64_t numel() const;
  bool is_contiguous() const { return true; }
  bool is_cuda() const { return true; }
  int get_device_index() const { return 0; }

  const void* const_data_ptr() const { return memory_->data(); }
  void* mutable_data_ptr() const {
    *written_ = true;
    return memory_->data();
  }
  template <class T>
  const T* const_data_ptr() const {
    return static_cast<const T*>(const_data_ptr());
  }
  template <class T>
  T* mutable_data_ptr() const {
    return static_cast<T*>(mutable_data_ptr());
  }

  size_t bytes() const { return memory_->bytes(); }
  bool written() const { return *written_; }  // it may have been

 private:
  std::vector<int64_t> sizes_;
  ScalarType type_;
  std::shared_ptr<Memory> memory_;
  std::shared_ptr<bool> written_ = std::make_shared<bool>(false);
};

}  // namespace torch::stable
