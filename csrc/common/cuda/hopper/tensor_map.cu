#include "tensor_map.h"

#include "common/cuda/runtime.h"
#include "layout.h"

namespace hybatch::sm90 {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode EncodeFunction() {
  constexpr unsigned kSince = 12000;  // CUDA 12.0 brought tensor maps
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  Check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &result),
        "looking up cuTensorMapEncodeTiled in the driver");
  if (result != cudaDriverEntryPointSuccess || function == nullptr) {
    throw std::runtime_error("the CUDA driver has no cuTensorMapEncodeTiled: it is older than 12.0");
  }
  return reinterpret_cast<Encode>(function);
}

CUtensorMapDataType DataType(ElementKind kind) {
  switch (kind) {
    case ElementKind::kBFloat16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case ElementKind::kFloat16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  }
}

}  // namespace

CUtensorMap RowsMap(const void* data, ElementKind kind, int64_t width, int64_t rows, int64_t row_bytes, int box_rows) {
  static const Encode encode = EncodeFunction();
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(row_bytes)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(kSlabBytes / ElementBytes(kind)),
                            static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t element_strides[] = {1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, DataType(kind), 2, const_cast<void*>(data), sizes, strides, box, element_strides,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("the CUDA driver refused a tensor map of " + std::to_string(rows) + " rows of " +
                             std::to_string(width) + " elements: error " + std::to_string(static_cast<int>(result)));
  }
  return map;
}

}  // namespace hybatch::sm90
