#pragma once

#include <cstdint>

using AOTITorchError = int32_t;

namespace torch::stable::accelerator {

class DeviceGuard {
 public:
  explicit DeviceGuard(int) {}
};

}  // namespace torch::stable::accelerator
