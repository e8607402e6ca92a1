#include "logits.h"

#include <algorithm>

namespace hybatch::contrastive::cpu {
namespace {

constexpr int64_t kBlockBytes = 768 * 1024;  // of packed candidates: most of a core's second-level cache
constexpr int64_t kLargestBlock = 1024;
constexpr int64_t kDepth = 128;  // positions per pass: sums of short chains round less than one long chain

int64_t BlockSize(int64_t width, int64_t lanes) {
  const int64_t fitting = kBlockBytes / static_cast<int64_t>(sizeof(float)) / std::max<int64_t>(width, 1);
  return std::clamp<int64_t>(fitting / lanes * lanes, lanes, kLargestBlock);
}

}  // namespace

Logits::Logits(const LossInputs& inputs, const StripKernels& kernels, const Parallel& parallel, int64_t most_rows)
    : inputs_(inputs),
      kernels_(kernels),
      parallel_(parallel),
      masking_(inputs, kernels),
      block_size_(BlockSize(inputs.queries.width, kernels.tile.lanes)),
      panels_(MakeAlignedBuffer(most_rows * inputs.queries.width)),
      blocks_(parallel.workers) {
  for (PackedBlock& packed : blocks_) {
    packed.values = MakeAlignedBuffer(block_size_ * inputs.candidates.width);
    packed.partial = MakeAlignedBuffer(kernels.tile.rows * kernels.tile.lanes);
    packed.keys.resize(block_size_);
    packed.bias.resize(block_size_);
  }
}

int64_t Logits::num_tiles(int64_t block) const {
  return DivideUp(std::min(block_size_, inputs_.candidates.rows - first_candidate(block)), kernels_.tile.lanes);
}

int Logits::num_rows(int64_t panel) const {
  return static_cast<int>(std::min<int64_t>(kernels_.tile.rows, num_queries_ - panel * kernels_.tile.rows));
}

void Logits::PackQueries(int64_t first, int64_t count) {
  first_query_ = first;
  num_queries_ = count;
  ForEachItem(parallel_, num_panels(), [this](int64_t panel, int) {
    float* values = panels_.get() + panel * kernels_.tile.rows * inputs_.queries.width;
    kernels_.tile.pack_queries({inputs_.queries, nullptr, first_query(panel), num_rows(panel)}, values);
  });
}

void Logits::PackBlock(int64_t block, PackedBlock& packed) const {
  const int64_t first = first_candidate(block), lanes = kernels_.tile.lanes;
  packed.block = block;
  for (int64_t tile = 0; tile < num_tiles(block); ++tile) {
    const int64_t begin = first + tile * lanes;
    const int count = static_cast<int>(std::min<int64_t>(lanes, inputs_.candidates.rows - begin));
    float* values = packed.values.get() + tile * lanes * inputs_.candidates.width;
    kernels_.tile.pack_candidates({inputs_.candidates, nullptr, begin, count}, values);
  }
  masking_.DescribeColumns(first, num_tiles(block) * lanes, packed.keys.data(), packed.bias.data());
}

void Logits::Multiply(int64_t panel, PackedBlock& packed, const Strip& strip) const {
  const int64_t width = inputs_.queries.width, rows = kernels_.tile.rows, lanes = kernels_.tile.lanes;
  const int64_t passes = std::max<int64_t>(DivideUp(width, kDepth), 1);
  const int64_t depth = DivideUp(width, passes);
  for (int64_t pass = 0; pass < passes; ++pass) {
    const int64_t begin = pass * depth;
    const float* queries = panels_.get() + (panel * width + begin) * rows;
    for (int64_t tile = 0; tile < strip.tiles; ++tile) {
      const float* candidates = packed.values.get() + (tile * width + begin) * lanes;
      float* values = strip.values + tile * strip.tile_stride;
      float* to = pass == 0 ? values : packed.partial.get();
      kernels_.tile.multiply(queries, candidates, std::min(depth, width - begin), false, to);
      if (pass > 0) kernels_.add_tile(to, static_cast<int>(rows), static_cast<int>(lanes), false, values, lanes);
    }
  }
}

PlacedStrip Logits::At(int64_t panel, int64_t block, float* values, int64_t tile_stride) const {
  return {{values, kernels_.tile.lanes, tile_stride, num_tiles(block), num_rows(panel)},
          first_query(panel),
          first_candidate(block)};
}

Strip Logits::Compute(int64_t panel, int64_t block, int worker, float* values, int64_t tile_stride,
                      float* positive_logit) {
  PackedBlock& packed = blocks_[worker];
  if (packed.block != block) PackBlock(block, packed);
  const PlacedStrip placed = At(panel, block, values, tile_stride);
  Multiply(panel, packed, placed.strip);
  masking_.Finish(placed, {packed.keys.data(), packed.bias.data()}, positive_logit);
  return placed.strip;
}

}  // namespace hybatch::contrastive::cpu
