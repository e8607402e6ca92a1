// The CUDA runtime's functions: one device, one stream, everything done at once.

#include <cuda.h>

#include <string_view>

#include "block.h"
#include "watch.h"

const char* cudaGetErrorName(cudaError_t error) {
  if (error == cudaErrorInvalidValue) return "cudaErrorInvalidValue";
  if (error == cudaErrorInvalidConfiguration) return "cudaErrorInvalidConfiguration";
  return error == cudaSuccess ? "cudaSuccess" : "cudaErrorUnknown";
}

const char* cudaGetErrorString(cudaError_t) { return "of the device model"; }

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const device_model::Options& options = device_model::options;
  *value = attribute == cudaDevAttrMultiProcessorCount        ? options.multiprocessors
           : attribute == cudaDevAttrComputeCapabilityMajor ? options.capability / 10
                                                            : options.capability % 10;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr) return cudaErrorInvalidValue;
  device_model::Writes(to, bytes);
  std::memset(to, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool known = std::string_view(name) == "cuTensorMapEncodeTiled";
  *function = known ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

namespace device_model {

void Forbid(void* piece, size_t bytes, void* base, size_t used) {
  if (base == nullptr) return;
  const char* end = static_cast<char*>(piece) + bytes;
  Poison(end, static_cast<size_t>(static_cast<char*>(base) + used - end));
}

}  // namespace device_model
