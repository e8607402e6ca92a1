// What the kernels ask of a device before they divide their work.

#pragma once

namespace hybatch {

struct DeviceTraits {
  int device;
  int multiprocessors;
  int capability;  // 10 * major + minor
};

DeviceTraits TraitsOf(int device);

}  // namespace hybatch
