// Embedding matrices as bulk copies want them: rounded for the tensor cores, rows at multiples of 16 bytes.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../contract.h"
#include "common/cuda/hopper/tensor_map.h"
#include "common/cuda/runtime.h"
#include "precision.h"

namespace hybatch::ranking::cuda {

constexpr int kHopperTile = 256;  // candidates of a tile, and of one instruction

// Rows of a launch: all, or as many as are copied at a time; a multiple of kHopperTile or all.
int64_t RowsAtATime(const Matrix& matrix, ElementKind kind);

// Room for a copy of these rows; null where the matrix can be read as it stands.
void* CarveCopy(const Matrix& matrix, ElementKind kind, Carver& carver);

// A tensor map of rows first .. first + count - 1, which are copied to `copy` where that is needed.
CUtensorMap MapRows(const Matrix& matrix, ElementKind kind, int64_t first, int64_t count, int box_rows, void* copy,
                    cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
