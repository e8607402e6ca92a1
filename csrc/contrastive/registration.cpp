// The dispatcher's view of the loss ops: schemas, checks, and the way to the CPU kernels.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>

#include "common/cpu/torch_threads.h"
#include "cpu/contrastive_loss.h"
#include "cpu/product_tile.h"
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

// The ops of one tile, whose products torch computes.

cpu::ProductTile TileOf(const Tensor& products, const Tensor& positive_index, const Tensor& query_groups,
                        const Tensor& candidate_groups, const Tensor& scale, int64_t first_number,
                        const std::optional<Tensor>& left_out) {
  const int64_t queries = query_groups.numel(), candidates = candidate_groups.numel();
  STD_TORCH_CHECK(products.dim() == 2, "products must have 2 dimensions, not ", products.dim());
  STD_TORCH_CHECK(products.size(1) >= cpu::FewestColumns(candidates), "products must have ",
                  cpu::FewestColumns(candidates), " columns or more, not ", products.size(1));
  STD_TORCH_CHECK(first_number >= 0, "first_number must be 0 or more, not ", first_number);
  CheckTensor(products, "products", ScalarType::Float, {queries, products.size(1)});
  cpu::ProductTile tile = {products.mutable_data_ptr<float>(), products.size(1), {}, first_number};
  tile.inputs.queries = {nullptr, ElementType::kFloat32, queries, 0};
  tile.inputs.candidates = {nullptr, ElementType::kFloat32, candidates, 0};
  TakeLabels(tile.inputs, positive_index, query_groups, candidate_groups, scale);
  if (!left_out.has_value()) return tile;
  STD_TORCH_CHECK(left_out->dim() == 2 && left_out->size(1) >= LeftOutStride(first_number + candidates),
                  "left_out must have a bit for every candidate up to number ", first_number + candidates);
  CheckTensor(*left_out, "left_out", ScalarType::Byte, {queries, left_out->size(1)});
  tile.inputs.left_out = left_out->const_data_ptr<uint8_t>();
  tile.inputs.left_out_stride = left_out->size(1);
  return tile;
}

float* MutableValues(const Tensor& values, const char* name, int64_t count) {
  CheckTensor(values, name, ScalarType::Float, {count});
  return values.mutable_data_ptr<float>();
}

void AddSums(const Tensor& products, const Tensor& row_maxima, const Tensor& row_sums, const Tensor& positive_logit,
             const Tensor& column_maxima, const Tensor& column_sums, const Tensor& positive_index,
             const Tensor& query_groups, const Tensor& candidate_groups, const Tensor& scale, int64_t first_number,
             const std::optional<Tensor>& left_out) {
  const cpu::ProductTile tile =
      TileOf(products, positive_index, query_groups, candidate_groups, scale, first_number, left_out);
  const int64_t queries = tile.inputs.queries.rows, candidates = tile.inputs.candidates.rows;
  const cpu::RunningSums rows = {MutableValues(row_maxima, "row_maxima", queries),
                                 MutableValues(row_sums, "row_sums", queries)};
  cpu::RunningSums columns = {nullptr, nullptr};
  if (column_maxima.numel() > 0 || column_sums.numel() > 0) {
    columns = {MutableValues(column_maxima, "column_maxima", candidates),
               MutableValues(column_sums, "column_sums", candidates)};
  }
  cpu::AddSums(tile, rows, columns, MutableValues(positive_logit, "positive_logit", queries), InstructionSetOrError(),
               TorchThreads());
}

void KnownWeights(const Tensor& products, const Tensor& positive_index, const Tensor& query_groups,
                  const Tensor& candidate_groups, const Tensor& scale, int64_t first_number, const Tensor& row_lse,
                  const Tensor& grad_row_lse, const Tensor& grad_positive, const Tensor& column_lse,
                  const Tensor& grad_column_lse, const std::optional<Tensor>& left_out) {
  const cpu::ProductTile tile =
      TileOf(products, positive_index, query_groups, candidate_groups, scale, first_number, left_out);
  const BackwardTask task =
      BackwardTaskOf(tile.inputs, row_lse, grad_row_lse, grad_positive, column_lse, grad_column_lse);
  cpu::KnownWeights(tile, task, InstructionSetOrError(), TorchThreads());
}

void LossWeights(const Tensor& products, const Tensor& row_maxima, const Tensor& row_sums,
                 const Tensor& positive_logit, const Tensor& positive_index, const Tensor& query_groups,
                 const Tensor& candidate_groups, const Tensor& scale, const std::optional<Tensor>& left_out) {
  const cpu::ProductTile tile = TileOf(products, positive_index, query_groups, candidate_groups, scale, 0, left_out);
  const int64_t queries = tile.inputs.queries.rows;
  const cpu::RunningSums rows = {MutableValues(row_maxima, "row_maxima", queries),
                                 MutableValues(row_sums, "row_sums", queries)};
  cpu::LossWeights(tile, rows, MutableValues(positive_logit, "positive_logit", queries), InstructionSetOrError(),
                   TorchThreads());
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
  m.def(
      "contrastive_add_sums_(Tensor(a!) products, Tensor(b!) row_maxima, Tensor(c!) row_sums, "
      "Tensor(d!) positive_logit, Tensor(e!) column_maxima, Tensor(f!) column_sums, Tensor positive_index, "
      "Tensor query_groups, Tensor candidate_groups, Tensor scale, int first_number, Tensor? left_out=None) -> ()");
  m.def(
      "contrastive_known_weights_(Tensor(a!) products, Tensor positive_index, Tensor query_groups, "
      "Tensor candidate_groups, Tensor scale, int first_number, Tensor row_lse, Tensor grad_row_lse, "
      "Tensor grad_positive, Tensor column_lse, Tensor grad_column_lse, Tensor? left_out=None) -> ()");
  m.def(
      "contrastive_loss_weights_(Tensor(a!) products, Tensor(b!) row_maxima, Tensor(c!) row_sums, "
      "Tensor(d!) positive_logit, Tensor positive_index, Tensor query_groups, Tensor candidate_groups, Tensor scale, "
      "Tensor? left_out=None) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hybatch, CPU, m) {
  m.impl("contrastive_forward", TORCH_BOX(&hybatch::contrastive::Forward));
  m.impl("contrastive_backward", TORCH_BOX(&hybatch::contrastive::Backward));
  m.impl("contrastive_forward_backward", TORCH_BOX(&hybatch::contrastive::ForwardBackward));
  m.impl("contrastive_add_sums_", TORCH_BOX(&hybatch::contrastive::AddSums));
  m.impl("contrastive_known_weights_", TORCH_BOX(&hybatch::contrastive::KnownWeights));
  m.impl("contrastive_loss_weights_", TORCH_BOX(&hybatch::contrastive::LossWeights));
}
