// The dispatcher's view of the loss ops: schemas, checks, and the way to the CPU kernels.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>

#include "common/cpu/torch_threads.h"
#include "cpu/contrastive_loss.h"
#include "tensor_checks.h"

namespace hybatch::contrastive {
namespace {

void CheckPositives(const LossInputs& inputs, int64_t lowest) {
  for (int64_t q = 0; q < inputs.queries.rows; ++q) {
    const int64_t positive = inputs.positive_index[q];
    STD_TORCH_CHECK(positive >= lowest && positive < inputs.candidates.rows, "positive_index[", q, "] is ", positive,
                    ", outside [", lowest, ", ", inputs.candidates.rows, ")");
  }
}

std::tuple<Tensor, Tensor, Tensor> Forward(const Tensor& queries, const Tensor& candidates,
                                           const Tensor& positive_index, const Tensor& query_groups,
                                           const Tensor& candidate_groups, const Tensor& scale, bool want_columns,
                                           const std::optional<Tensor>& left_out) {
  ForwardTask task;
  task.inputs = InputsOf(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  CheckPositives(task.inputs, -1);
  Tensor row_lse = NewFloats(queries, {task.inputs.queries.rows});
  Tensor positive_logit = NewFloats(queries, {task.inputs.queries.rows});
  Tensor column_lse = NewFloats(queries, {want_columns ? task.inputs.candidates.rows : 0});
  task.row_lse = row_lse.mutable_data_ptr<float>();
  task.positive_logit = positive_logit.mutable_data_ptr<float>();
  task.column_lse = want_columns ? column_lse.mutable_data_ptr<float>() : nullptr;
  cpu::Forward(task, InstructionSetOrError(), TorchThreads());
  return {row_lse, positive_logit, column_lse};
}

std::tuple<Tensor, Tensor, Tensor> Backward(const Tensor& queries, const Tensor& candidates,
                                            const Tensor& positive_index, const Tensor& query_groups,
                                            const Tensor& candidate_groups, const Tensor& scale, const Tensor& row_lse,
                                            const Tensor& grad_row_lse, const Tensor& grad_positive,
                                            const Tensor& column_lse, const Tensor& grad_column_lse,
                                            const std::optional<Tensor>& left_out) {
  const LossInputs inputs =
      InputsOf(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  CheckPositives(inputs, -1);
  BackwardTask task = BackwardTaskOf(inputs, row_lse, grad_row_lse, grad_positive, column_lse, grad_column_lse);
  Tensor grad_queries = NewFloats(queries, {inputs.queries.rows, inputs.queries.width});
  Tensor grad_candidates = NewFloats(queries, {inputs.candidates.rows, inputs.candidates.width});
  Tensor grad_scale = NewFloats(queries, {});
  task.gradients = GradientsInto(grad_queries, grad_candidates, grad_scale);
  cpu::Backward(task, InstructionSetOrError(), TorchThreads());
  return {grad_queries, grad_candidates, grad_scale};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> ForwardBackward(const Tensor& queries, const Tensor& candidates,
                                                                   const Tensor& positive_index,
                                                                   const Tensor& query_groups,
                                                                   const Tensor& candidate_groups,
                                                                   const Tensor& scale,
                                                                   const std::optional<Tensor>& left_out) {
  ForwardBackwardTask task;
  task.inputs = InputsOf(queries, candidates, positive_index, query_groups, candidate_groups, scale, left_out);
  CheckPositives(task.inputs, 0);
  Tensor row_lse = NewFloats(queries, {task.inputs.queries.rows});
  Tensor positive_logit = NewFloats(queries, {task.inputs.queries.rows});
  Tensor grad_queries = NewFloats(queries, {task.inputs.queries.rows, task.inputs.queries.width});
  Tensor grad_candidates = NewFloats(queries, {task.inputs.candidates.rows, task.inputs.candidates.width});
  Tensor grad_scale = NewFloats(queries, {});
  task.row_lse = row_lse.mutable_data_ptr<float>();
  task.positive_logit = positive_logit.mutable_data_ptr<float>();
  task.gradients = GradientsInto(grad_queries, grad_candidates, grad_scale);
  cpu::ForwardBackward(task, InstructionSetOrError(), TorchThreads());
  return {row_lse, positive_logit, grad_queries, grad_candidates, grad_scale};
}

}  // namespace
}  // namespace hybatch::contrastive

STABLE_TORCH_LIBRARY_FRAGMENT(hybatch, m) {
  m.def(
      "contrastive_forward(Tensor queries, Tensor candidates, Tensor positive_index, Tensor query_groups, "
      "Tensor candidate_groups, Tensor scale, bool want_columns, Tensor? left_out=None) -> (Tensor, Tensor, Tensor)");
  m.def(
      "contrastive_backward(Tensor queries, Tensor candidates, Tensor positive_index, Tensor query_groups, "
      "Tensor candidate_groups, Tensor scale, Tensor row_lse, Tensor grad_row_lse, Tensor grad_positive, "
      "Tensor column_lse, Tensor grad_column_lse, Tensor? left_out=None) -> (Tensor, Tensor, Tensor)");
  m.def(
      "contrastive_forward_backward(Tensor queries, Tensor candidates, Tensor positive_index, Tensor query_groups, "
      "Tensor candidate_groups, Tensor scale, Tensor? left_out=None) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(hybatch, CPU, m) {
  m.impl("contrastive_forward", TORCH_BOX(&hybatch::contrastive::Forward));
  m.impl("contrastive_backward", TORCH_BOX(&hybatch::contrastive::Backward));
  m.impl("contrastive_forward_backward", TORCH_BOX(&hybatch::contrastive::ForwardBackward));
}
