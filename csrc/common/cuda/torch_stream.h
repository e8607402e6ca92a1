// Where torch wants work done: its device and its stream.

#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "common/tensor_checks.h"
#include "runtime.h"

namespace hybatch {

// Makes a device current, for torch and for this library's own runtime (it is linked statically).
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) : torch_guard_(device) {
    Check(cudaGetDevice(&before_), "asking for the current device");
    Check(cudaSetDevice(device), "making the tensors' device current");
  }
  ~CurrentDevice() { cudaSetDevice(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  torch::stable::accelerator::DeviceGuard torch_guard_;
  int before_ = 0;
};

// torch's current stream. The function lives in torch's CUDA library, which a machine that only compiles need not
// have: it is looked up in the copy that this process has loaded.
inline cudaStream_t CurrentStream(int device) {
  using Getter = AOTITorchError (*)(int32_t, void**);
  static const Getter getter = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    constexpr char kName[] = "aoti_torch_get_current_cuda_stream";
    void* symbol = library != nullptr ? dlsym(library, kName) : dlsym(RTLD_DEFAULT, kName);
    return reinterpret_cast<Getter>(symbol);
  }();
  STD_TORCH_CHECK(getter != nullptr, "libtorch_cuda.so is not loaded, or has no aoti_torch_get_current_cuda_stream");
  void* stream = nullptr;
  STD_TORCH_CHECK(getter(device, &stream) == 0, "torch could not name the current stream of CUDA device ", device);
  return static_cast<cudaStream_t>(stream);
}

inline void CheckOnDevice(const Tensor& tensor, const char* name, const Tensor& queries) {
  STD_TORCH_CHECK(tensor.is_cuda() && tensor.get_device_index() == queries.get_device_index(), name,
                  " must be on the device of queries");
}

}  // namespace hybatch
