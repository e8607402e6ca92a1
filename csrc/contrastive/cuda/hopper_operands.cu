#include "hopper_operands.cuh"

namespace hybatch::contrastive::cuda {
namespace {

// Rows are counted in 32 bits, the last tile's empty ones included.
constexpr int64_t kMostRows = (int64_t{1} << 31) - 1024;
constexpr int64_t kMostElements = int64_t{1} << 28;  // of a row

bool IsAligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

const char* WhyNotHopper(const LossInputs& inputs, const DeviceTraits& device) {
  const Matrix& queries = inputs.queries;
  const Matrix& candidates = inputs.candidates;
  if (inputs.left_out != nullptr) return "they do not know pairs that are left out one by one";
  if (device.capability != 90) return "the device's compute capability is not 9.0";
  if (queries.type == ElementType::kFloat32) return "they take bfloat16 and float16 embeddings, not float32";
  if (queries.width % 8 != 0) return "the embeddings' width is no multiple of 8";
  if (!IsAligned(queries.data) || !IsAligned(candidates.data)) {
    return "embeddings do not begin at a multiple of 16 bytes";
  }
  if (queries.rows > kMostRows || candidates.rows > kMostRows || queries.width > kMostElements) {
    return "there are more rows or elements than 32 bits count";
  }
  return nullptr;
}

}  // namespace hybatch::contrastive::cuda
