// The dispatcher's view of the ranking ops: schemas, checks, and the way to the CPU kernels.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "common/cpu/torch_threads.h"
#include "common/tensor_checks.h"
#include "cpu/rank_counts.h"
#include "tensor_checks.h"

namespace hybatch::ranking {
namespace {

// Inputs arrive rounded to the precision asked for; on the CPU all of them are then scored by the same chain.
void CheckPrecision(const std::string& precision) {
  for (const char* known : {"fp32", "tf32", "bf16", "fp16"}) {
    if (precision == known) return;
  }
  STD_TORCH_CHECK(false, "precision must be fp32, tf32, bf16 or fp16 on the CPU, not ", precision);
}

void CheckOffsets(const Tensor& offsets, int64_t num_queries, int64_t num_positives) {
  CheckTensor(offsets, "offsets", ScalarType::Long, {num_queries + 1});
  const int64_t* values = offsets.const_data_ptr<int64_t>();
  STD_TORCH_CHECK(values[0] == 0, "offsets must begin with 0, not ", values[0]);
  STD_TORCH_CHECK(values[num_queries] == num_positives, "offsets must end with the number of positives, ",
                  num_positives, ", not ", values[num_queries]);
  STD_TORCH_CHECK(std::is_sorted(values, values + num_queries + 1), "offsets must ascend");
}

const int64_t* CheckedRows(const Tensor& rows, int64_t num_positives, int64_t num_embeddings) {
  CheckTensor(rows, "positive_rows", ScalarType::Long, {num_positives});
  const int64_t* values = rows.const_data_ptr<int64_t>();
  for (int64_t p = 0; p < num_positives; ++p) {
    STD_TORCH_CHECK(values[p] >= 0 && values[p] < num_embeddings, "positive_rows[", p, "] is ", values[p],
                    ", outside [0, ", num_embeddings, ")");
  }
  return values;
}

Tensor PairScores(const Tensor& queries, const Tensor& positive_embeddings, const Tensor& offsets,
                  const std::string& precision, const std::optional<Tensor>& positive_rows) {
  CheckPrecision(precision);
  PairScoresTask task;
  task.queries = RankedMatrixOf(queries, "queries");
  task.embeddings = RankedMatrixOf(positive_embeddings, "positive_embeddings");
  CheckSameKind(task.queries, task.embeddings, "queries", "positive_embeddings");
  const int64_t num_positives = positive_rows.has_value() ? positive_rows->numel() : task.embeddings.rows;
  CheckOffsets(offsets, task.queries.rows, num_positives);
  task.rows = positive_rows.has_value() ? CheckedRows(*positive_rows, num_positives, task.embeddings.rows) : nullptr;
  task.offsets = offsets.const_data_ptr<int64_t>();
  Tensor scores = torch::stable::new_empty(queries, {num_positives}, ScalarType::Float);
  task.scores = scores.mutable_data_ptr<float>();
  cpu::PairScores(task, InstructionSetOrError(), TorchThreads());
  return scores;
}

int32_t* CounterValues(const Tensor& counter, const char* name, int64_t num_positives, int64_t num_groups) {
  CheckTensor(counter, name, ScalarType::Int, {num_positives, num_groups});
  return counter.mutable_data_ptr<int32_t>();
}

CountAboveTask CheckedCount(const Tensor& greater, const Tensor& tied_before, const Tensor& tied_after,
                            const Tensor& status, const Tensor& queries, const Tensor& thresholds,
                            const Tensor& positive_index, const Tensor& offsets, const Tensor& candidates,
                            const Tensor& groups, int64_t first_index, const std::string& precision) {
  CheckPrecision(precision);
  CountAboveTask task;
  task.queries = RankedMatrixOf(queries, "queries");
  task.candidates = RankedMatrixOf(candidates, "candidates");
  CheckSameKind(task.queries, task.candidates, "queries", "candidates");
  const int64_t num_positives = positive_index.numel();
  CheckTensor(positive_index, "positive_index", ScalarType::Long, {num_positives});
  CheckTensor(thresholds, "thresholds", ScalarType::Float, {num_positives});
  CheckOffsets(offsets, task.queries.rows, num_positives);
  CheckTensor(groups, "groups", ScalarType::Int, {task.candidates.rows});
  CheckTensor(status, "status", ScalarType::Long, {kStatusSlots});
  STD_TORCH_CHECK(greater.dim() == 2, "greater must have 2 dimensions, not ", greater.dim());
  STD_TORCH_CHECK(first_index >= 0 && first_index <= std::numeric_limits<int32_t>::max() - task.candidates.rows,
                  "candidate indices must stay below 2^31; first_index is ", first_index, " with ",
                  task.candidates.rows, " candidates");
  task.thresholds = thresholds.const_data_ptr<float>();
  task.positive_index = positive_index.const_data_ptr<int64_t>();
  task.offsets = offsets.const_data_ptr<int64_t>();
  task.groups = groups.const_data_ptr<int32_t>();
  task.first_index = first_index;
  task.num_groups = greater.size(1);
  task.greater = CounterValues(greater, "greater", num_positives, task.num_groups);
  task.tied_before = CounterValues(tied_before, "tied_before", num_positives, task.num_groups);
  task.tied_after = CounterValues(tied_after, "tied_after", num_positives, task.num_groups);
  task.status = status.mutable_data_ptr<int64_t>();
  return task;
}

void CountAbove(const Tensor& greater, const Tensor& tied_before, const Tensor& tied_after, const Tensor& status,
                const Tensor& queries, const Tensor& thresholds, const Tensor& positive_index, const Tensor& offsets,
                const Tensor& candidates, const Tensor& groups, int64_t first_index, const std::string& precision) {
  const CountAboveTask task = CheckedCount(greater, tied_before, tied_after, status, queries, thresholds,
                                           positive_index, offsets, candidates, groups, first_index, precision);
  cpu::CountAbove(task, InstructionSetOrError(), TorchThreads());
}

void CountAndKeep(const Tensor& greater, const Tensor& tied_before, const Tensor& tied_after, const Tensor& status,
                  const Tensor& best_scores, const Tensor& best_index, const Tensor& group_scores,
                  const Tensor& group_index, const Tensor& queries, const Tensor& thresholds,
                  const Tensor& positive_index, const Tensor& offsets, const Tensor& candidates, const Tensor& groups,
                  int64_t first_index, const std::string& precision) {
  const CountAboveTask task = CheckedCount(greater, tied_before, tied_after, status, queries, thresholds,
                                           positive_index, offsets, candidates, groups, first_index, precision);
  STD_TORCH_CHECK(best_scores.dim() == 2 && best_scores.size(1) > 0, "best_scores must be [queries, places]");
  BestCandidatesTask best;
  best.places = best_scores.size(1);
  CheckTensor(best_scores, "best_scores", ScalarType::Float, {task.queries.rows, best.places});
  CheckTensor(best_index, "best_index", ScalarType::Long, {task.queries.rows, best.places});
  CheckTensor(group_scores, "group_scores", ScalarType::Float, {task.queries.rows, task.num_groups});
  CheckTensor(group_index, "group_index", ScalarType::Long, {task.queries.rows, task.num_groups});
  best.best_scores = best_scores.mutable_data_ptr<float>();
  best.best_index = best_index.mutable_data_ptr<int64_t>();
  best.group_scores = group_scores.mutable_data_ptr<float>();
  best.group_index = group_index.mutable_data_ptr<int64_t>();
  cpu::CountAndKeep(task, best, InstructionSetOrError(), TorchThreads());
}

}  // namespace
}  // namespace hybatch::ranking

// The CPU library defines every schema; other devices' libraries only add implementations.
STABLE_TORCH_LIBRARY_FRAGMENT(hybatch, m) {
  m.def(
      "pair_scores(Tensor queries, Tensor positive_embeddings, Tensor offsets, str precision, "
      "Tensor? positive_rows=None) -> Tensor");
  m.def(
      "count_above_(Tensor(a!) greater, Tensor(b!) tied_before, Tensor(c!) tied_after, Tensor(d!) status, "
      "Tensor queries, Tensor thresholds, Tensor positive_index, Tensor offsets, Tensor candidates, Tensor groups, "
      "int first_index, str precision) -> ()");
  m.def(
      "count_and_keep_(Tensor(a!) greater, Tensor(b!) tied_before, Tensor(c!) tied_after, Tensor(d!) status, "
      "Tensor(e!) best_scores, Tensor(f!) best_index, Tensor(g!) group_scores, Tensor(h!) group_index, "
      "Tensor queries, Tensor thresholds, Tensor positive_index, Tensor offsets, Tensor candidates, Tensor groups, "
      "int first_index, str precision) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(hybatch, CPU, m) {
  m.impl("pair_scores", TORCH_BOX(&hybatch::ranking::PairScores));
  m.impl("count_above_", TORCH_BOX(&hybatch::ranking::CountAbove));
  m.impl("count_and_keep_", TORCH_BOX(&hybatch::ranking::CountAndKeep));
}
