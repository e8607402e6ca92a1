// Log-sum-exps: logits live for as long as one strip, in a worker's cache.

#include <algorithm>
#include <limits>
#include <vector>

#include "contrastive_loss.h"
#include "logits.h"
#include "sums.h"

namespace hybatch::contrastive::cpu {
namespace {

constexpr int64_t kPartRows = 504;             // rows of one work item: whole panels of every instruction set
constexpr int64_t kMostParts = 16;             // rows packed at a time, in work items
constexpr int64_t kSumsBytes = int64_t{8} << 20;  // of row sums, one per row and block of candidates

class ForwardPass {
 public:
  ForwardPass(const ForwardTask& task, const StripKernels& kernels, const Parallel& parallel)
      : task_(task),
        kernels_(kernels),
        parallel_(parallel),
        num_parts_(NumParts(task)),
        logits_(task.inputs, kernels, parallel, num_parts_ * kPartRows) {
    const int64_t blocks = logits_.num_blocks();
    row_maxima_.resize(blocks * num_parts_ * kPartRows);
    row_sums_.resize(row_maxima_.size());
    if (task.column_lse == nullptr) return;
    columns_.resize(task.inputs.candidates.rows);
    column_maxima_.resize(num_parts_ * blocks * logits_.block_size());
    column_sums_.resize(column_maxima_.size());
  }

  void Run();

 private:
  static int64_t NumParts(const ForwardTask& task) {
    const int64_t wanted = DivideUp(task.inputs.queries.rows, kPartRows);
    const int64_t bytes = kPartRows * 8 * DivideUp(task.inputs.candidates.rows, 128);
    return std::clamp<int64_t>(std::min(wanted, kSumsBytes / std::max<int64_t>(bytes, 1)), 1, kMostParts);
  }

  int64_t row_place(int64_t block, int64_t row) const { return block * num_parts_ * kPartRows + row; }
  int64_t column_place(int64_t part, int64_t block) const {
    return (part * logits_.num_blocks() + block) * logits_.block_size();
  }

  void ComputeItem(int64_t part, int64_t block, int worker, float* values);
  void JoinRows(int64_t first, int64_t count);
  void JoinColumns(int64_t parts);

  const ForwardTask& task_;
  const StripKernels& kernels_;
  const Parallel& parallel_;
  int64_t num_parts_;
  Logits logits_;
  std::vector<float> row_maxima_, row_sums_;        // [blocks, parts * kPartRows]
  std::vector<float> column_maxima_, column_sums_;  // [parts, blocks, block size]
  std::vector<ExponentialSum> columns_;             // [D]
};

void ForwardPass::Run() {
  const int64_t num_queries = task_.inputs.queries.rows, step = num_parts_ * kPartRows;
  const int64_t strip_size = logits_.block_size() * kernels_.tile.rows;
  const AlignedBuffer values = MakeAlignedBuffer(parallel_.workers * strip_size);
  std::fill_n(task_.positive_logit, num_queries, 0.0f);
  for (int64_t first = 0; first < num_queries; first += step) {
    const int64_t count = std::min(step, num_queries - first), parts = DivideUp(count, kPartRows);
    logits_.PackQueries(first, count);
    ForEachItem(parallel_, logits_.num_blocks() * parts, [&](int64_t item, int worker) {
      ComputeItem(item % parts, item / parts, worker, values.get() + worker * strip_size);
    });
    JoinRows(first, count);
    JoinColumns(parts);
  }
  for (size_t d = 0; d < columns_.size(); ++d) task_.column_lse[d] = columns_[d].LogSumExp();
}

void ForwardPass::ComputeItem(int64_t part, int64_t block, int worker, float* values) {
  const int64_t rows = kernels_.tile.rows;
  const int64_t panels = kPartRows / rows, first = part * panels;
  const int64_t column = column_place(part, block);
  if (task_.column_lse != nullptr) {
    std::fill_n(&column_maxima_[column], logits_.block_size(), -std::numeric_limits<float>::infinity());
    std::fill_n(&column_sums_[column], logits_.block_size(), 0.0f);
  }
  for (int64_t panel = first; panel < std::min(first + panels, logits_.num_panels()); ++panel) {
    const Strip strip =
        logits_.Compute(panel, block, worker, values, rows * kernels_.tile.lanes, task_.positive_logit);
    const int64_t row = row_place(block, panel * rows);
    kernels_.row_sums(strip, &row_maxima_[row], &row_sums_[row]);
    if (task_.column_lse != nullptr) kernels_.column_sums(strip, &column_maxima_[column], &column_sums_[column]);
  }
}

void ForwardPass::JoinRows(int64_t first, int64_t count) {
  ForEachItem(parallel_, DivideUp(count, kPartRows), [&](int64_t part, int) {
    for (int64_t row = part * kPartRows; row < std::min(count, (part + 1) * kPartRows); ++row) {
      ExponentialSum joined;
      for (int64_t block = 0; block < logits_.num_blocks(); ++block) {
        joined.Add(row_maxima_[row_place(block, row)], row_sums_[row_place(block, row)]);
      }
      task_.row_lse[first + row] = joined.LogSumExp();
    }
  });
}

void ForwardPass::JoinColumns(int64_t parts) {
  if (task_.column_lse == nullptr) return;
  ForEachItem(parallel_, logits_.num_blocks(), [&](int64_t block, int) {
    const int64_t first = logits_.first_candidate(block);
    const int64_t count = std::min<int64_t>(logits_.block_size(), task_.inputs.candidates.rows - first);
    for (int64_t d = 0; d < count; ++d) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t place = column_place(part, block) + d;
        columns_[first + d].Add(column_maxima_[place], column_sums_[place]);
      }
    }
  });
}

}  // namespace

void Forward(const ForwardTask& task, InstructionSet instruction_set, const Parallel& parallel) {
  ForwardPass(task, StripKernelsFor(instruction_set), parallel).Run();
}

}  // namespace hybatch::contrastive::cpu
