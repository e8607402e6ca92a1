// The dispatcher's way to the CUDA kernels. The schemas are the CPU library's.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "../tensor_checks.h"
#include "common/cuda/runtime.h"
#include "common/cuda/torch_stream.h"
#include "rank_counts.h"

namespace hybatch::ranking {
namespace {

cuda::Precision PrecisionFor(const std::string& name, ElementType type) {
  if (name == "fp32") return cuda::Precision::kExact;
  STD_TORCH_CHECK(!IsCode(type), "codes are counted in precision fp32, which leaves them as they are, not in ", name);
  if (name == "tf32+rescore") return cuda::Precision::kRescoredTf32;
  if (name == "bf16+rescore") return cuda::Precision::kRescoredBFloat16;
  if (name == "fp16+rescore") return cuda::Precision::kRescoredFloat16;
  const bool known = name == "tf32" || name == "bf16" || name == "fp16";
  STD_TORCH_CHECK(known, "precision must be fp32, tf32, bf16 or fp16, the latter three with or without +rescore, not ",
                  name);
  const ElementType wanted = name == "bf16"   ? ElementType::kBFloat16
                             : name == "fp16" ? ElementType::kFloat16
                                              : ElementType::kFloat32;
  STD_TORCH_CHECK(type == wanted, "queries must already have the dtype of precision ", name);
  return name == "tf32" ? cuda::Precision::kTf32 : cuda::Precision::kStored;
}

// Places and tiles are counted in 32 bits, the last tile's empty columns included.
constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - 1024;

void CheckSizes(const Matrix& queries, int64_t num_positives) {
  STD_TORCH_CHECK(queries.rows < kMost, "queries must stay below 2^31 - 1024 rows");
  STD_TORCH_CHECK(queries.width < 1 << 28, "queries must stay below 2^28 columns");
  STD_TORCH_CHECK(num_positives < kMost, "positives must stay below 2^31 - 1024");
}

Tensor PairScores(const Tensor& queries, const Tensor& positive_embeddings, const Tensor& offsets,
                  const std::string& precision, const std::optional<Tensor>& positive_rows) {
  PairScoresTask task;
  task.queries = RankedMatrixOf(queries, "queries");
  task.embeddings = RankedMatrixOf(positive_embeddings, "positive_embeddings");
  CheckSameKind(task.queries, task.embeddings, "queries", "positive_embeddings");
  CheckOnDevice(positive_embeddings, "positive_embeddings", queries);
  const int64_t num_positives = positive_rows.has_value() ? positive_rows->numel() : task.embeddings.rows;
  CheckSizes(task.queries, num_positives);
  CheckTensor(offsets, "offsets", ScalarType::Long, {task.queries.rows + 1});
  CheckOnDevice(offsets, "offsets", queries);
  task.rows = nullptr;
  if (positive_rows.has_value()) {
    CheckTensor(*positive_rows, "positive_rows", ScalarType::Long, {num_positives});
    CheckOnDevice(*positive_rows, "positive_rows", queries);
    task.rows = positive_rows->const_data_ptr<int64_t>();
  }
  STD_TORCH_CHECK(num_positives == 0 || task.queries.rows > 0, "positives need queries that own them");
  task.offsets = offsets.const_data_ptr<int64_t>();
  const cuda::Precision wanted = PrecisionFor(precision, task.queries.type);
  const int device = queries.get_device_index();
  const CurrentDevice current(device);
  Tensor scores = torch::stable::new_empty(queries, {num_positives}, ScalarType::Float);
  task.scores = scores.mutable_data_ptr<float>();
  cuda::PairScores(task, num_positives, wanted, TraitsOf(device), CurrentStream(device));
  return scores;
}

int32_t* CounterValues(const Tensor& counter, const char* name, int64_t num_positives, int64_t num_groups,
                       const Tensor& queries) {
  CheckTensor(counter, name, ScalarType::Int, {num_positives, num_groups});
  CheckOnDevice(counter, name, queries);
  return counter.mutable_data_ptr<int32_t>();
}

void CountAbove(const Tensor& greater, const Tensor& tied_before, const Tensor& tied_after, const Tensor& status,
                const Tensor& queries, const Tensor& thresholds, const Tensor& positive_index, const Tensor& offsets,
                const Tensor& candidates, const Tensor& groups, int64_t first_index, const std::string& precision) {
  CountAboveTask task;
  task.queries = RankedMatrixOf(queries, "queries");
  task.candidates = RankedMatrixOf(candidates, "candidates");
  CheckSameKind(task.queries, task.candidates, "queries", "candidates");
  const int64_t num_positives = positive_index.numel();
  CheckSizes(task.queries, num_positives);
  STD_TORCH_CHECK(task.candidates.rows < kMost, "a block of candidates must stay below 2^31 - 1024 rows");
  CheckTensor(positive_index, "positive_index", ScalarType::Long, {num_positives});
  CheckTensor(thresholds, "thresholds", ScalarType::Float, {num_positives});
  CheckTensor(offsets, "offsets", ScalarType::Long, {task.queries.rows + 1});
  CheckTensor(groups, "groups", ScalarType::Int, {task.candidates.rows});
  CheckTensor(status, "status", ScalarType::Long, {kStatusSlots});
  STD_TORCH_CHECK(greater.dim() == 2, "greater must have 2 dimensions, not ", greater.dim());
  STD_TORCH_CHECK(first_index >= 0 && first_index <= std::numeric_limits<int32_t>::max() - task.candidates.rows,
                  "candidate indices must stay below 2^31; first_index is ", first_index, " with ",
                  task.candidates.rows, " candidates");
  STD_TORCH_CHECK(num_positives == 0 || task.queries.rows > 0, "positives need queries that own them");
  const std::pair<const Tensor&, const char*> others[] = {
      {status, "status"},   {thresholds, "thresholds"}, {positive_index, "positive_index"},
      {offsets, "offsets"}, {candidates, "candidates"}, {groups, "groups"}};
  for (const auto& [tensor, name] : others) CheckOnDevice(tensor, name, queries);
  task.thresholds = thresholds.const_data_ptr<float>();
  task.positive_index = positive_index.const_data_ptr<int64_t>();
  task.offsets = offsets.const_data_ptr<int64_t>();
  task.groups = groups.const_data_ptr<int32_t>();
  task.first_index = first_index;
  task.num_groups = greater.size(1);
  task.greater = CounterValues(greater, "greater", num_positives, task.num_groups, queries);
  task.tied_before = CounterValues(tied_before, "tied_before", num_positives, task.num_groups, queries);
  task.tied_after = CounterValues(tied_after, "tied_after", num_positives, task.num_groups, queries);
  task.status = status.mutable_data_ptr<int64_t>();
  const cuda::Precision wanted = PrecisionFor(precision, task.queries.type);
  const int device = queries.get_device_index();
  const CurrentDevice current(device);
  const DeviceTraits traits = TraitsOf(device);
  const auto bytes = static_cast<int64_t>(cuda::CountAboveWorkspace(task, num_positives, wanted, traits));
  // Given back to torch's allocator on return, which hands it on only to work queued later on the same stream.
  Tensor workspace = torch::stable::new_empty(queries, {bytes}, ScalarType::Byte);
  cuda::CountAbove(task, num_positives, wanted, traits, workspace.mutable_data_ptr(), CurrentStream(device));
}

}  // namespace
}  // namespace hybatch::ranking

STABLE_TORCH_LIBRARY_IMPL(hybatch, CUDA, m) {
  m.impl("pair_scores", TORCH_BOX(&hybatch::ranking::PairScores));
  m.impl("count_above_", TORCH_BOX(&hybatch::ranking::CountAbove));
}
