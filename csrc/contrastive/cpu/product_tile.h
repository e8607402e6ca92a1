// All that lies between the matrix products of the loss, for products that someone else computes: a tile of them is
// passed over once, while a few rows at a time lie in a worker's cache. Results do not depend on the number of workers,
// bit for bit.

#pragma once

#include <cstdint>

#include "../contract.h"
#include "common/cpu/instruction_set.h"
#include "common/cpu/parallel.h"

namespace hybatch::contrastive::cpu {

struct ProductTile {
  // Inner products of the queries with the candidates, row-major; the kernels write over all of it.
  float* values;  // [queries, stride]
  int64_t stride;  // FewestColumns of the candidates, or more
  LossInputs inputs;  // of the tile's queries and candidates, the matrices without data
  int64_t first_number;  // the first candidate's in positive_index and left_out, whose stride is that of all
};

// Columns that the kernels touch: whole tiles of any instruction set.
int64_t FewestColumns(int64_t candidates);

// Sums of exponentials so far, relative to the largest exponent: minus infinity and 0 at first.
struct RunningSums {
  float* maxima;
  float* sums;
};

// Takes the tile's logits up into the sums of its rows, and of its columns unless those are null. Writes the logits of
// the positives that are in the tile.
void AddSums(const ProductTile& tile, const RunningSums& rows, const RunningSums& columns, float* positive_logit,
             InstructionSet instruction_set, const Parallel& parallel);

// Products become weights times scale. Of the task only the log-sum-exps are looked at and what arrived for them.
void KnownWeights(const ProductTile& tile, const BackwardTask& known, InstructionSet instruction_set,
                  const Parallel& parallel);

// Likewise of the sum of row_lse - positive_logit, of a tile that holds all candidates; gives the sums of its rows and
// the logits of its positives, too.
void LossWeights(const ProductTile& tile, const RunningSums& rows, float* positive_logit,
                 InstructionSet instruction_set, const Parallel& parallel);

}  // namespace hybatch::contrastive::cpu
