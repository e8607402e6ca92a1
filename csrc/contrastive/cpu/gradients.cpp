// Gradients. A slab of queries has its logits against all candidates held at once; they become weights in place, and
// both gradients are products with them. So logits are computed once, and where the row sums are not known beforehand
// they come from the same logits: three products for loss and gradients together.

#include <algorithm>
#include <vector>

#include "contrastive_loss.h"
#include "logits.h"
#include "sums.h"

namespace hybatch::contrastive::cpu {
namespace {

constexpr int64_t kMostRows = 504;                  // of a slab: whole panels of every instruction set
constexpr int64_t kFewestRows = 84;                 // likewise; products over fewer rows would be inefficient
constexpr int64_t kSlabBytes = int64_t{64} << 20;   // of weights, where that is more than the fewest rows
constexpr int64_t kDepth = 256;                     // terms summed by one tile: a left panel fits the first-level cache
constexpr int64_t kColumns = 768;                   // right operands of that depth fit the second-level cache
constexpr int64_t kCandidatePanels = 16;            // of a work item, at most
constexpr int64_t kFewestPanels = 4;                // of a work item, where there are that many

// Equal slabs, none larger than fits.
int64_t SlabRows(const LossInputs& inputs) {
  const int64_t row_bytes = std::max<int64_t>(inputs.candidates.rows, 1) * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::clamp(kSlabBytes / row_bytes / kFewestRows * kFewestRows, kFewestRows, kMostRows);
  const int64_t slabs = std::max<int64_t>(DivideUp(inputs.queries.rows, most), 1);
  return RoundUp(std::max<int64_t>(DivideUp(inputs.queries.rows, slabs), 1), kFewestRows);
}

struct Outputs {
  float* row_lse;         // null: not wanted, as they came in
  float* positive_logit;  // likewise
  Gradients gradients;
};

class GradientPass {
 public:
  // Without `known`, row sums come from the logits and every row weighs 1, its positive -1.
  GradientPass(const LossInputs& inputs, const BackwardTask* known, const Outputs& outputs,
               const StripKernels& kernels, const Parallel& parallel);
  void Run();

 private:
  struct Worker {
    AlignedBuffer left, tile, candidates;
  };

  void ComputeLogits();
  void JoinRows();
  void ComputeWeights();
  void PackQueryLanes();
  void Multiply();
  void MultiplyQueries(int64_t first_panel, int64_t end_panel, Worker& worker);
  void MultiplyCandidates(int64_t first_panel, int64_t end_panel, Worker& worker);
  void AddProducts(const Worker& worker, const float* right, int64_t depth, int64_t columns, bool replace, int rows,
                   float* to) const;
  void PackLeftOfQueries(int64_t panel, int64_t first, int64_t depth, float* left) const;
  void PackLeftOfCandidates(int64_t panel, int64_t first, int64_t depth, float* left) const;

  int64_t tile_rows() const { return kernels_.tile.rows; }
  int64_t lanes() const { return kernels_.tile.lanes; }
  int64_t width() const { return inputs_.queries.width; }
  int64_t tile_stride() const { return slab_rows_ * lanes(); }
  float* TileOf(int64_t candidate) const { return weights_.get() + candidate / lanes() * tile_stride(); }
  int64_t slab_passes() const { return DivideUp(count_, kDepth); }
  int64_t slab_depth() const { return DivideUp(count_, slab_passes()); }

  const LossInputs& inputs_;
  const BackwardTask* known_;
  const Outputs outputs_;
  const StripKernels& kernels_;
  const Parallel& parallel_;
  const int64_t slab_rows_;
  Logits logits_;
  AlignedBuffer weights_;       // [tiles of candidates][slab rows, lanes]
  AlignedBuffer query_lanes_;   // [passes][chunks of lanes][depth, lanes]
  std::vector<Worker> workers_;
  std::vector<float> row_maxima_, row_sums_;  // [blocks, slab rows]
  std::vector<float> maximum_, log_sum_, row_weight_, positive_weight_;  // [slab rows]
  std::vector<float> column_lse_, column_weight_;                        // [D], padded to whole tiles
  std::vector<double> scale_terms_;                                      // [slab rows]
  double grad_scale_ = 0;
  int64_t first_ = 0, count_ = 0;  // the slab's queries
};

GradientPass::GradientPass(const LossInputs& inputs, const BackwardTask* known, const Outputs& outputs,
                           const StripKernels& kernels, const Parallel& parallel)
    : inputs_(inputs),
      known_(known),
      outputs_(outputs),
      kernels_(kernels),
      parallel_(parallel),
      slab_rows_(SlabRows(inputs)),
      logits_(inputs, kernels, parallel, slab_rows_),
      workers_(parallel.workers) {
  const int64_t padded = RoundUp(inputs.candidates.rows, lanes());
  weights_ = MakeAlignedBuffer(padded * slab_rows_);
  query_lanes_ = MakeAlignedBuffer(slab_rows_ * RoundUp(width(), lanes()));
  for (Worker& worker : workers_) {
    worker.left = MakeAlignedBuffer(kDepth * tile_rows());
    worker.tile = MakeAlignedBuffer(tile_rows() * lanes());
    worker.candidates = MakeAlignedBuffer(kDepth * RoundUp(std::min(width(), kColumns), lanes()));
  }
  row_maxima_.resize(logits_.num_blocks() * slab_rows_);
  row_sums_.resize(row_maxima_.size());
  for (std::vector<float>* terms : {&maximum_, &log_sum_, &row_weight_, &positive_weight_}) terms->resize(slab_rows_);
  scale_terms_.resize(slab_rows_);
  if (known == nullptr || known->column_lse == nullptr) return;
  column_lse_.resize(padded);
  column_weight_.resize(padded);
  for (int64_t d = 0; d < inputs.candidates.rows; ++d) {
    column_lse_[d] = Finite(known->column_lse[d]);
    column_weight_[d] = known->grad_column_lse[d] * *inputs.scale;
  }
}

void GradientPass::Run() {
  if (inputs_.queries.rows == 0) std::fill_n(outputs_.gradients.candidates, inputs_.candidates.rows * width(), 0.0f);
  if (inputs_.candidates.rows == 0) std::fill_n(outputs_.gradients.queries, inputs_.queries.rows * width(), 0.0f);
  if (outputs_.positive_logit != nullptr) std::fill_n(outputs_.positive_logit, inputs_.queries.rows, 0.0f);
  for (first_ = 0; first_ < inputs_.queries.rows; first_ += slab_rows_) {
    count_ = std::min(slab_rows_, inputs_.queries.rows - first_);
    logits_.PackQueries(first_, count_);
    PackQueryLanes();
    ComputeLogits();
    JoinRows();
    ComputeWeights();
    Multiply();
  }
  *outputs_.gradients.scale = static_cast<float>(grad_scale_ / *inputs_.scale);
}

void GradientPass::ComputeLogits() {
  const int64_t blocks = logits_.num_blocks(), panels = logits_.num_panels();
  const int64_t parts = std::clamp<int64_t>(4 * parallel_.workers / std::max<int64_t>(blocks, 1), 1,
                                            std::max<int64_t>(panels / kFewestPanels, 1));
  ForEachItem(parallel_, blocks * parts, [&](int64_t item, int worker) {
    const int64_t block = item / parts, part = item % parts;
    for (int64_t panel = panels * part / parts; panel < panels * (part + 1) / parts; ++panel) {
      const int64_t row = panel * tile_rows();
      float* values = TileOf(logits_.first_candidate(block)) + row * lanes();
      const Strip strip = logits_.Compute(panel, block, worker, values, tile_stride(), outputs_.positive_logit);
      if (known_ != nullptr) continue;
      const int64_t place = block * slab_rows_ + row;
      kernels_.row_sums(strip, &row_maxima_[place], &row_sums_[place]);
    }
  });
}

void GradientPass::JoinRows() {
  const float scale = *inputs_.scale;
  for (int64_t row = 0; row < count_; ++row) {
    const int64_t q = first_ + row;
    if (known_ != nullptr) {
      maximum_[row] = Finite(known_->row_lse[q]);
      log_sum_[row] = 0;
      row_weight_[row] = known_->grad_row_lse[q] * scale;
      positive_weight_[row] = known_->grad_positive[q] * scale;
      continue;
    }
    ExponentialSum joined;
    for (int64_t block = 0; block < logits_.num_blocks(); ++block) {
      joined.Add(row_maxima_[block * slab_rows_ + row], row_sums_[block * slab_rows_ + row]);
    }
    outputs_.row_lse[q] = joined.LogSumExp();
    maximum_[row] = Finite(joined.maximum);
    log_sum_[row] = Finite(static_cast<float>(joined.Log()));
    row_weight_[row] = scale;
    positive_weight_[row] = -scale;
  }
}

void GradientPass::ComputeWeights() {
  const int64_t panels = logits_.num_panels();
  ForEachItem(parallel_, logits_.num_blocks(), [&](int64_t block, int) {
    const int64_t first = logits_.first_candidate(block);
    const ColumnTerms columns = column_lse_.empty()
                                    ? ColumnTerms{nullptr, nullptr}
                                    : ColumnTerms{&column_lse_[first], &column_weight_[first]};
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t row = panel * tile_rows();
      const PlacedStrip placed = logits_.At(panel, block, TileOf(first) + row * lanes(), tile_stride());
      kernels_.weights(placed.strip, {&maximum_[row], &log_sum_[row], &row_weight_[row]}, columns);
      logits_.masking().ForEachPositive(placed, [&](int i, float& value) { value += positive_weight_[row + i]; });
    }
  });
}

void GradientPass::PackQueryLanes() {
  ForEachItem(parallel_, slab_passes(), [&](int64_t pass, int) {
    const int64_t begin = pass * slab_depth(), depth = std::min(slab_depth(), count_ - begin);
    float* packed = query_lanes_.get() + begin * RoundUp(width(), lanes());
    kernels_.pack_lanes(inputs_.queries, first_ + begin, depth, 0, width(), packed);
  });
}

// The two gradients are independent of each other; each element belongs to one work item, its sum has one order.
void GradientPass::Multiply() {
  const int64_t query_panels = logits_.num_panels();
  const int64_t query_items =
      std::clamp<int64_t>(parallel_.workers, 1, std::max<int64_t>(query_panels / kFewestPanels, 1));
  const int64_t candidate_panels = DivideUp(inputs_.candidates.rows, tile_rows());
  const int64_t per_item =
      std::clamp<int64_t>(candidate_panels / (4 * parallel_.workers), kFewestPanels, kCandidatePanels);
  const int64_t candidate_items = DivideUp(candidate_panels, per_item);
  ForEachItem(parallel_, query_items + candidate_items, [&](int64_t item, int worker) {
    if (item < query_items) {
      MultiplyQueries(query_panels * item / query_items, query_panels * (item + 1) / query_items, workers_[worker]);
      return;
    }
    const int64_t panel = (item - query_items) * per_item;
    MultiplyCandidates(panel, std::min(panel + per_item, candidate_panels), workers_[worker]);
  });
  for (int64_t row = 0; row < count_; ++row) grad_scale_ += scale_terms_[row];
}

void GradientPass::AddProducts(const Worker& worker, const float* right, int64_t depth, int64_t columns, bool replace,
                               int rows, float* to) const {
  for (int64_t begin = 0; begin < columns; begin += lanes()) {
    kernels_.tile.multiply(worker.left.get(), right + begin * depth, depth, false, worker.tile.get());
    const int count = static_cast<int>(std::min(lanes(), columns - begin));
    kernels_.add_tile(worker.tile.get(), rows, count, replace, to + begin, width());
  }
}

void GradientPass::PackLeftOfQueries(int64_t panel, int64_t first, int64_t depth, float* left) const {
  const int64_t rows = tile_rows();
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < depth; d += lanes()) {
      const float* from = TileOf(first + d) + (panel * rows + i) * lanes();
      const int64_t count = std::min(lanes(), depth - d);
      for (int64_t lane = 0; lane < count; ++lane) left[(d + lane) * rows + i] = from[lane];
    }
  }
}

void GradientPass::MultiplyQueries(int64_t first_panel, int64_t end_panel, Worker& worker) {
  const int64_t num_candidates = inputs_.candidates.rows;
  for (int64_t column = 0; column < width(); column += kColumns) {
    const int64_t columns = std::min(kColumns, width() - column);
    for (int64_t first = 0; first < num_candidates; first += kDepth) {
      const int64_t depth = std::min(kDepth, num_candidates - first);
      kernels_.pack_lanes(inputs_.candidates, first, depth, column, columns, worker.candidates.get());
      for (int64_t panel = first_panel; panel < end_panel; ++panel) {
        PackLeftOfQueries(panel, first, depth, worker.left.get());
        float* to = outputs_.gradients.queries + logits_.first_query(panel) * width() + column;
        AddProducts(worker, worker.candidates.get(), depth, columns, first == 0, logits_.num_rows(panel), to);
      }
    }
  }
  // The sum over d of weight(q, d) <q, d> is the product of the query with its gradient.
  for (int64_t panel = first_panel; panel < end_panel; ++panel) {
    for (int i = 0; i < logits_.num_rows(panel); ++i) {
      const int64_t q = logits_.first_query(panel) + i;
      scale_terms_[q - first_] = kernels_.dot(inputs_.queries, q, outputs_.gradients.queries + q * width());
    }
  }
}

void GradientPass::PackLeftOfCandidates(int64_t panel, int64_t first, int64_t depth, float* left) const {
  const int64_t rows = tile_rows();
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t candidate = panel * rows + i;
    if (candidate >= inputs_.candidates.rows) {
      for (int64_t q = 0; q < depth; ++q) left[q * rows + i] = 0;
      continue;
    }
    const float* from = TileOf(candidate) + first * lanes() + candidate % lanes();
    for (int64_t q = 0; q < depth; ++q) left[q * rows + i] = from[q * lanes()];
  }
}

void GradientPass::MultiplyCandidates(int64_t first_panel, int64_t end_panel, Worker& worker) {
  for (int64_t begin = 0; begin < count_; begin += slab_depth()) {
    const int64_t depth = std::min(slab_depth(), count_ - begin);
    for (int64_t column = 0; column < width(); column += kColumns) {
      const int64_t columns = std::min(kColumns, width() - column);
      const float* right = query_lanes_.get() + begin * RoundUp(width(), lanes()) + column * depth;
      for (int64_t panel = first_panel; panel < end_panel; ++panel) {
        const int64_t candidate = panel * tile_rows();
        const int rows = static_cast<int>(std::min(tile_rows(), inputs_.candidates.rows - candidate));
        PackLeftOfCandidates(panel, begin, depth, worker.left.get());
        float* to = outputs_.gradients.candidates + candidate * width() + column;
        AddProducts(worker, right, depth, columns, first_ == 0 && begin == 0, rows, to);
      }
    }
  }
}

}  // namespace

void Backward(const BackwardTask& task, InstructionSet instruction_set, const Parallel& parallel) {
  const Outputs outputs = {nullptr, nullptr, task.gradients};
  GradientPass(task.inputs, &task, outputs, StripKernelsFor(instruction_set), parallel).Run();
}

void ForwardBackward(const ForwardBackwardTask& task, InstructionSet instruction_set, const Parallel& parallel) {
  const Outputs outputs = {task.row_lse, task.positive_logit, task.gradients};
  GradientPass(task.inputs, nullptr, outputs, StripKernelsFor(instruction_set), parallel).Run();
}

}  // namespace hybatch::contrastive::cpu
