// The inner kernels of the loss that exist once per instruction set. These work on what the products of tiles leave
// behind.
//
// A strip is one panel of queries by several tiles of candidates: as our own products leave them, tile by tile, or a
// piece of a row-major matrix.

#pragma once

#include <cstdint>

#include "../contract.h"
#include "common/cpu/instruction_set.h"
#include "common/cpu/tile_kernels.h"

namespace hybatch::contrastive::cpu {

constexpr int kMostStripRows = 16;

struct Strip {
  float* values;        // tile t, row i, lane j: values[t * tile_stride + i * row_stride + j]
  int64_t row_stride;
  int64_t tile_stride;
  int64_t tiles;
  int rows;             // rows in use, at most kMostStripRows
};

// The candidates of a strip, padded to whole tiles.
struct StripColumns {
  const int64_t* keys;  // [tiles * lanes] a candidate whose key equals the query's takes no part
  const float* bias;    // [tiles * lanes] 0; minus infinity where a candidate takes part with no query
};

// weight * exp(value - maximum - log_sum), per row.
struct RowTerms {
  const float* maximum;
  const float* log_sum;
  const float* weight;
};

// weight * exp(value - lse), per lane; null: no column term.
struct ColumnTerms {
  const float* lse;
  const float* weight;
};

struct StripKernels {
  TileKernels tile;
  // Products become logits: times scale, minus infinity where the pair takes no part.
  void (*finish_logits)(const Strip& strip, float scale, const int64_t* query_keys, const StripColumns& columns);
  // Largest logit of each row, and the sum of exp(logit - largest).
  void (*row_sums)(const Strip& strip, float* maxima, float* sums);
  // Takes the rows into each column's largest logit and sum of exp(logit - largest).
  void (*column_sums)(const Strip& strip, float* maxima, float* sums);
  // Logits become weights, in place.
  void (*weights)(const Strip& strip, const RowTerms& rows, const ColumnTerms& columns);
  // Rows of a matrix as right operands of a product over rows: columns first_column .. first_column + num_columns - 1
  // in chunks of `lanes`, each chunk [num_rows, lanes], zeros past the last column.
  void (*pack_lanes)(const Matrix& matrix, int64_t first_row, int64_t num_rows, int64_t first_column,
                     int64_t num_columns, float* packed);
  // The corner of a tile is added to, or replaces, that of a matrix with rows of `stride` values.
  void (*add_tile)(const float* tile, int rows, int lanes, bool replace, float* to, int64_t stride);
  // Inner product of a row of the matrix with `values`.
  double (*dot)(const Matrix& matrix, int64_t row, const float* values);
};

const StripKernels& PortableStripKernels();
#if defined(__x86_64__)
const StripKernels& Avx2StripKernels();
const StripKernels& Avx512StripKernels();
#elif defined(__aarch64__)
const StripKernels& NeonStripKernels();
#endif

const StripKernels& StripKernelsFor(InstructionSet instruction_set);

}  // namespace hybatch::contrastive::cpu
