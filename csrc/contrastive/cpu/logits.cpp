#include "logits.h"

#include <algorithm>
#include <limits>

namespace hybatch::contrastive::cpu {
namespace {

constexpr int64_t kBlockBytes = 768 * 1024;  // of packed candidates: most of a core's second-level cache
constexpr int64_t kLargestBlock = 1024;
static_assert(kLargestBlock % 8 == 0);
constexpr int64_t kDepth = 128;  // positions per pass: sums of short chains round less than one long chain

// Keys of rows without a group: equal to nothing.
constexpr int64_t kQueryAlone = -3;
constexpr int64_t kCandidateAlone = -4;

int64_t BlockSize(int64_t width, int64_t lanes) {
  const int64_t fitting = kBlockBytes / static_cast<int64_t>(sizeof(float)) / std::max<int64_t>(width, 1);
  return std::clamp<int64_t>(fitting / lanes * lanes, lanes, kLargestBlock);
}

}  // namespace

Logits::Logits(const LossInputs& inputs, const StripKernels& kernels, const Parallel& parallel, int64_t most_rows)
    : inputs_(inputs),
      kernels_(kernels),
      parallel_(parallel),
      block_size_(BlockSize(inputs.queries.width, kernels.tile.lanes)),
      panels_(MakeAlignedBuffer(most_rows * inputs.queries.width)),
      query_keys_(inputs.queries.rows),
      blocks_(parallel.workers) {
  for (int64_t q = 0; q < inputs.queries.rows; ++q) {
    query_keys_[q] = inputs.query_groups[q] >= 0 ? inputs.query_groups[q] : kQueryAlone;
  }
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
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t group = lane < count ? inputs_.candidate_groups[begin + lane] : kEmptySlot;
      packed.keys[tile * lanes + lane] = group >= 0 ? group : kCandidateAlone;
      packed.bias[tile * lanes + lane] = group == kEmptySlot ? -std::numeric_limits<float>::infinity() : 0.0f;
    }
  }
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

// Bits are few: the bytes are looked through, and only those that hold one cost more.
void Logits::LeaveOut(int64_t panel, int64_t block, const Strip& strip) const {
  const int64_t lanes = kernels_.tile.lanes, first = first_candidate(block);
  const int64_t count = std::min(block_size_, inputs_.candidates.rows - first);
  for (int row = 0; row < strip.rows; ++row) {
    const uint8_t* bits = inputs_.left_out + (first_query(panel) + row) * inputs_.left_out_stride + first / 8;
    for (int64_t byte = 0; byte < DivideUp(count, 8); ++byte) {
      for (unsigned rest = bits[byte]; rest != 0; rest &= rest - 1) {
        const int64_t column = byte * 8 + __builtin_ctz(rest);
        if (column >= count) break;
        float* tile = strip.values + column / lanes * strip.tile_stride;
        tile[row * lanes + column % lanes] = -std::numeric_limits<float>::infinity();
      }
    }
  }
}

Strip Logits::Compute(int64_t panel, int64_t block, int worker, float* values, int64_t tile_stride,
                      float* positive_logit) {
  PackedBlock& packed = blocks_[worker];
  if (packed.block != block) PackBlock(block, packed);
  const Strip strip = {values, tile_stride, num_tiles(block), num_rows(panel)};
  Multiply(panel, packed, strip);
  const float scale = *inputs_.scale;
  std::vector<float>& logits = packed.positives;
  logits.clear();
  const auto place = [&](int row, int64_t tile, int lane) -> float& {
    return values[tile * tile_stride + row * kernels_.tile.lanes + lane];
  };
  // The masks do not know positives: their logits are put back after it.
  ForEachPositive(panel, block, [&](int row, int64_t tile, int lane) { logits.push_back(place(row, tile, lane) * scale); });
  kernels_.finish_logits(strip, scale, query_keys_.data() + first_query(panel), {packed.keys.data(), packed.bias.data()});
  if (inputs_.left_out != nullptr) LeaveOut(panel, block, strip);
  auto logit = logits.begin();
  ForEachPositive(panel, block, [&](int row, int64_t tile, int lane) {
    if (positive_logit != nullptr) positive_logit[first_query(panel) + row] = *logit;
    place(row, tile, lane) = *logit++;
  });
  return strip;
}

}  // namespace hybatch::contrastive::cpu
