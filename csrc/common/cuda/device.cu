#include "device.h"

#include "runtime.h"

namespace hybatch {

DeviceTraits TraitsOf(int device) {
  DeviceTraits traits = {device, 0, 0};
  int major = 0, minor = 0;
  Check(cudaDeviceGetAttribute(&traits.multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "counting the device's multiprocessors");
  Check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
        "reading the device's compute capability");
  Check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
        "reading the device's compute capability");
  traits.capability = 10 * major + minor;
  return traits;
}

}  // namespace hybatch
