// The dispatcher's way to the CUDA kernels of the loss. The schemas are the CPU library's.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>
#include <utility>

#include "../tensor_checks.h"
#include "common/cuda/torch_stream.h"
#include "contrastive_loss.h"
#include "generic_schedule.h"

namespace hybatch::contrastive {
namespace {

LossInputs CheckedInputs(const Tensor& queries, const Tensor& candidates, const Tensor& positive_index,
                         const Tensor& query_groups, const Tensor& candidate_groups, const Tensor& scale,
                         const std::optional<Tensor>& left_out) {
  const std::pair<const Tensor&, const char*> others[] = {{candidates, "candidates"},
                                                          {positive_index, "positive_index"},
                                                          {query_groups, "query_groups"},
                                                          {candidate_groups, "candidate_groups"},
                                                          {scale, "scale"}};
  for (const auto& [tensor, name] : others) CheckOnDevice(tensor, name, queries);
  if (left_out.has_value()) CheckOnDevice(*left_out, "left_out", queries);
  const LossInputs inputs =
      InputsOf(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  STD_TORCH_CHECK(inputs.queries.width <= cuda::kMostWidth, "queries must have at most ", cuda::kMostWidth,
                  " columns, not ", inputs.queries.width);
  return inputs;
}

// Given back to torch's allocator when it goes, which hands it on only to work queued later on the same stream.
Tensor Workspace(const Tensor& like, size_t bytes) {
  return torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

void RunForward(const ForwardTask& task, const Tensor& queries) {
  const int index = queries.get_device_index();
  const DeviceTraits device = TraitsOf(index);
  Tensor workspace = Workspace(queries, cuda::ForwardWorkspace(task.inputs, task.column_lse != nullptr, device));
  cuda::Forward(task, device, workspace.mutable_data_ptr(), CurrentStream(index));
}

void RunBackward(const BackwardTask& task, const Tensor& queries) {
  const int index = queries.get_device_index();
  const DeviceTraits device = TraitsOf(index);
  Tensor workspace = Workspace(queries, cuda::BackwardWorkspace(task.inputs, device));
  cuda::Backward(task, device, workspace.mutable_data_ptr(), CurrentStream(index));
}

std::tuple<Tensor, Tensor, Tensor> Forward(const Tensor& queries, const Tensor& candidates,
                                           const Tensor& positive_index, const Tensor& query_groups,
                                           const Tensor& candidate_groups, const Tensor& scale, bool want_columns,
                                           const std::optional<Tensor>& left_out) {
  ForwardTask task;
  task.inputs = CheckedInputs(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  const CurrentDevice current(queries.get_device_index());
  Tensor row_lse = NewFloats(queries, {task.inputs.queries.rows});
  Tensor positive_logit = NewFloats(queries, {task.inputs.queries.rows});
  Tensor column_lse = NewFloats(queries, {want_columns ? task.inputs.candidates.rows : 0});
  task.row_lse = row_lse.mutable_data_ptr<float>();
  task.positive_logit = positive_logit.mutable_data_ptr<float>();
  task.column_lse = want_columns ? column_lse.mutable_data_ptr<float>() : nullptr;
  RunForward(task, queries);
  return {row_lse, positive_logit, column_lse};
}

std::tuple<Tensor, Tensor, Tensor> Backward(const Tensor& queries, const Tensor& candidates,
                                            const Tensor& positive_index, const Tensor& query_groups,
                                            const Tensor& candidate_groups, const Tensor& scale, const Tensor& row_lse,
                                            const Tensor& grad_row_lse, const Tensor& grad_positive,
                                            const Tensor& column_lse, const Tensor& grad_column_lse,
                                            const std::optional<Tensor>& left_out) {
  const LossInputs inputs =
      CheckedInputs(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  const std::pair<const Tensor&, const char*> others[] = {{row_lse, "row_lse"},
                                                          {grad_row_lse, "grad_row_lse"},
                                                          {grad_positive, "grad_positive"},
                                                          {column_lse, "column_lse"},
                                                          {grad_column_lse, "grad_column_lse"}};
  for (const auto& [tensor, name] : others) CheckOnDevice(tensor, name, queries);
  BackwardTask task = BackwardTaskOf(inputs, row_lse, grad_row_lse, grad_positive, column_lse, grad_column_lse);
  const CurrentDevice current(queries.get_device_index());
  Tensor grad_queries = NewFloats(queries, {inputs.queries.rows, inputs.queries.width});
  Tensor grad_candidates = NewFloats(queries, {inputs.candidates.rows, inputs.candidates.width});
  Tensor grad_scale = NewFloats(queries, {});
  task.gradients = GradientsInto(grad_queries, grad_candidates, grad_scale);
  RunBackward(task, queries);
  return {grad_queries, grad_candidates, grad_scale};
}

// A forward and a backward pass: four products, where a slab with its sums at hand would need three.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ForwardBackward(const Tensor& queries, const Tensor& candidates,
                                                                   const Tensor& positive_index,
                                                                   const Tensor& query_groups,
                                                                   const Tensor& candidate_groups,
                                                                   const Tensor& scale,
                                                                   const std::optional<Tensor>& left_out) {
  auto [row_lse, positive_logit, no_columns] =
      Forward(queries, candidates, positive_index, query_groups, candidate_groups, scale, false, left_out);
  const CurrentDevice current(queries.get_device_index());
  Tensor ones = NewFloats(queries, {queries.size(0)}), minus_ones = NewFloats(queries, {queries.size(0)});
  cuda::FillOnes(ones.mutable_data_ptr<float>(), minus_ones.mutable_data_ptr<float>(), queries.size(0),
                 CurrentStream(queries.get_device_index()));
  auto [grad_queries, grad_candidates, grad_scale] =
      Backward(queries, candidates, positive_index, query_groups, candidate_groups, scale, row_lse, ones, minus_ones,
               no_columns, no_columns, left_out);
  return {row_lse, positive_logit, grad_queries, grad_candidates, grad_scale};
}

}  // namespace
}  // namespace hybatch::contrastive

STABLE_TORCH_LIBRARY_IMPL(hybatch, CUDA, m) {
  m.impl("contrastive_forward", TORCH_BOX(&hybatch::contrastive::Forward));
  m.impl("contrastive_backward", TORCH_BOX(&hybatch::contrastive::Backward));
  m.impl("contrastive_forward_backward", TORCH_BOX(&hybatch::contrastive::ForwardBackward));
}
