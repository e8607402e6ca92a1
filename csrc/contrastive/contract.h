// What the contrastive kernels compute. Every device implements this header and nothing else; no kernel knows torch.
//
// logit(q, d) = scale * <queries[q], candidates[d]>, the rows as they are: nothing is normalised here.
//
// The pair (q, d) takes part if and only if d == positive_index[q], or the candidate is neither an empty slot
// (candidate_groups[d] == kEmptySlot) nor of the query's own group (candidate_groups[d] >= 0 and equal to
// query_groups[q]), nor left out: bit d % 8, of value 2^(d % 8), of byte left_out[q * left_out_stride + d / 8]. Then
//
//   row_lse[q]        = log sum over the d that take part of exp(logit(q, d)), minus infinity if none does
//   column_lse[d]     = log sum over the q that take part of exp(logit(q, d)), likewise
//   positive_logit[q] = logit(q, positive_index[q]), bit-equal to what went into row_lse; 0 where the index is -1
//
// and for pairs that take part
//
//   weight(q, d) = grad_row_lse[q] exp(logit - row_lse[q]) + grad_column_lse[d] exp(logit - column_lse[d])
//                  + (d == positive_index[q] ? grad_positive[q] : 0)
//   grad_queries[q]    = scale * sum over d of weight(q, d) candidates[d]
//   grad_candidates[d] = scale * sum over q of weight(q, d) queries[q]
//   grad_scale         = sum over q, d of weight(q, d) <queries[q], candidates[d]>
//
// A log-sum-exp of minus infinity contributes no weight. Log-sum-exps may come from more rows or columns than are at
// hand. A NaN or an infinity in an embedding makes some output NaN; it never passes for a finite loss.

#pragma once

#include <cstdint>

#include "common/matrix.h"

namespace hybatch::contrastive {

constexpr int64_t kEmptySlot = -2;

// Bytes of `left_out` for each query.
constexpr int64_t LeftOutStride(int64_t candidates) { return (candidates + 7) / 8; }

struct LossInputs {
  Matrix queries;
  Matrix candidates;               // of the same element type and width
  const int64_t* positive_index;   // [Q], in [0, D), or -1: not among these candidates
  const int64_t* query_groups;     // [Q]
  const int64_t* candidate_groups; // [D]
  const float* scale;              // one value
  const uint8_t* left_out;         // [Q, left_out_stride], or null: no pair is left out by it
  int64_t left_out_stride;         // LeftOutStride(D)
};

struct ForwardTask {
  LossInputs inputs;
  float* row_lse;         // [Q]
  float* positive_logit;  // [Q]
  float* column_lse;      // [D], or null: not wanted
};

struct Gradients {
  float* queries;     // [Q, width]
  float* candidates;  // [D, width]
  float* scale;       // one value
};

struct BackwardTask {
  LossInputs inputs;
  const float* row_lse;          // [Q]
  const float* grad_row_lse;     // [Q]
  const float* grad_positive;    // [Q]
  const float* column_lse;       // [D], or null: no column term
  const float* grad_column_lse;  // [D], likewise
  Gradients gradients;
};

// Forward without columns, and the gradients of the sum over q of row_lse[q] - positive_logit[q].
struct ForwardBackwardTask {
  LossInputs inputs;
  float* row_lse;
  float* positive_logit;
  Gradients gradients;
};

}  // namespace hybatch::contrastive
