#include "hopper_operands.cuh"

#include <algorithm>

namespace hybatch::ranking::cuda {
namespace {

constexpr int64_t kCopiedBytes = int64_t{128} << 20;  // of one matrix at a time, where it must be copied

template <ElementKind kGiven, ElementKind kRounded>
__global__ void CopyRounded(const typename Element<kGiven>::Stored* from, int64_t rows, int64_t width, int64_t stride,
                            typename Element<kRounded>::Stored* to) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    for (int64_t h = threadIdx.x; h < stride; h += blockDim.x) {
      typename Element<kRounded>::Stored value = 0;
      if (h < width) {
        const auto given = from[row * width + h];
        if constexpr (kGiven == kRounded) {
          value = given;
        } else {
          value = Element<kRounded>::Rounded(given);
        }
      }
      to[row * stride + h] = value;
    }
  }
}

int64_t CopiedRowBytes(const Matrix& matrix, ElementKind kind) {
  return (matrix.width * ElementBytes(kind) + 15) / 16 * 16;
}

bool ReadAsItStands(const Matrix& matrix, ElementKind kind) {
  return matrix.type != ElementType::kFloat32 && reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 &&
         CopiedRowBytes(matrix, kind) == matrix.width * ElementBytes(kind);
}

}  // namespace

int64_t RowsAtATime(const Matrix& matrix, ElementKind kind) {
  if (ReadAsItStands(matrix, kind)) return matrix.rows;
  const int64_t fitting = kCopiedBytes / CopiedRowBytes(matrix, kind) / kHopperTile * kHopperTile;
  return std::min(matrix.rows, std::max<int64_t>(fitting, kHopperTile));
}

void* CarveCopy(const Matrix& matrix, ElementKind kind, Carver& carver) {
  if (ReadAsItStands(matrix, kind)) return nullptr;
  return carver.Take<char>(RowsAtATime(matrix, kind) * CopiedRowBytes(matrix, kind));
}

CUtensorMap MapRows(const Matrix& matrix, ElementKind kind, int64_t first, int64_t count, int box_rows, void* copy,
                    cudaStream_t stream) {
  const int64_t row_bytes = CopiedRowBytes(matrix, kind);
  if (ReadAsItStands(matrix, kind)) {
    const auto* data = static_cast<const char*>(matrix.data) + first * row_bytes;
    return sm90::RowsMap(data, kind, matrix.width, count, row_bytes, box_rows);
  }
  WithTensorCoreKind(matrix.type, kind, [&]<ElementKind kGiven, ElementKind kRounded>() {
    const auto* data = static_cast<const typename Element<kGiven>::Stored*>(matrix.data) + first * matrix.width;
    CopyRounded<kGiven, kRounded><<<BlocksFor(count, 1, 1 << 14), 256, 0, stream>>>(
        data, count, matrix.width, row_bytes / ElementBytes(kind),
        static_cast<typename Element<kRounded>::Stored*>(copy));
  });
  CheckLaunch("launching CopyRounded");
  return sm90::RowsMap(copy, kind, matrix.width, count, row_bytes, box_rows);
}

}  // namespace hybatch::ranking::cuda
