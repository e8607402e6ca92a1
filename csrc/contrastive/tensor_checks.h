// What every device's registration does before a loss kernel sees a pointer: checks, and tensors for the results.

#pragma once

#include <torch/csrc/stable/ops.h>

#include <initializer_list>
#include <optional>

#include "common/tensor_checks.h"
#include "contract.h"

namespace hybatch::contrastive {

// Of inputs whose numbers of queries and candidates are known.
inline void TakeLabels(LossInputs& inputs, const Tensor& positive_index, const Tensor& query_groups,
                       const Tensor& candidate_groups, const Tensor& scale) {
  CheckTensor(positive_index, "positive_index", ScalarType::Long, {inputs.queries.rows});
  CheckTensor(query_groups, "query_groups", ScalarType::Long, {inputs.queries.rows});
  CheckTensor(candidate_groups, "candidate_groups", ScalarType::Long, {inputs.candidates.rows});
  CheckTensor(scale, "scale", ScalarType::Float, {});
  inputs.positive_index = positive_index.const_data_ptr<int64_t>();
  inputs.query_groups = query_groups.const_data_ptr<int64_t>();
  inputs.candidate_groups = candidate_groups.const_data_ptr<int64_t>();
  inputs.scale = scale.const_data_ptr<float>();
}

inline LossInputs InputsOf(const Tensor& queries, const Tensor& candidates, const Tensor& positive_index,
                           const Tensor& query_groups, const Tensor& candidate_groups, const Tensor& scale,
                           const std::optional<Tensor>& left_out) {
  LossInputs inputs;
  inputs.queries = MatrixOf(queries, "queries");
  inputs.candidates = MatrixOf(candidates, "candidates");
  CheckSameKind(inputs.queries, inputs.candidates, "queries", "candidates");
  TakeLabels(inputs, positive_index, query_groups, candidate_groups, scale);
  inputs.left_out = nullptr;
  inputs.left_out_stride = LeftOutStride(inputs.candidates.rows);
  if (left_out.has_value()) {
    CheckTensor(*left_out, "left_out", ScalarType::Byte, {inputs.queries.rows, inputs.left_out_stride});
    inputs.left_out = left_out->const_data_ptr<uint8_t>();
  }
  return inputs;
}

inline const float* RowValues(const Tensor& values, const char* name, int64_t rows) {
  CheckTensor(values, name, ScalarType::Float, {rows});
  return values.const_data_ptr<float>();
}

// What came out of the forward pass and what came back for it.
inline BackwardTask BackwardTaskOf(const LossInputs& inputs, const Tensor& row_lse, const Tensor& grad_row_lse,
                                   const Tensor& grad_positive, const Tensor& column_lse,
                                   const Tensor& grad_column_lse) {
  BackwardTask task = {};
  task.inputs = inputs;
  task.row_lse = RowValues(row_lse, "row_lse", inputs.queries.rows);
  task.grad_row_lse = RowValues(grad_row_lse, "grad_row_lse", inputs.queries.rows);
  task.grad_positive = RowValues(grad_positive, "grad_positive", inputs.queries.rows);
  const bool columns = column_lse.numel() > 0 || grad_column_lse.numel() > 0;
  if (!columns) return task;
  task.column_lse = RowValues(column_lse, "column_lse", inputs.candidates.rows);
  task.grad_column_lse = RowValues(grad_column_lse, "grad_column_lse", inputs.candidates.rows);
  return task;
}

inline Tensor NewFloats(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_empty(like, shape, ScalarType::Float);
}

inline Gradients GradientsInto(const Tensor& queries, const Tensor& candidates, const Tensor& scale) {
  return {queries.mutable_data_ptr<float>(), candidates.mutable_data_ptr<float>(), scale.mutable_data_ptr<float>()};
}

}  // namespace hybatch::contrastive
