// Logits of a panel of queries and a block of candidates: products, scale, mask, and the positives' own logits.

#pragma once

#include <cstdint>
#include <vector>

#include "../contract.h"
#include "common/cpu/aligned_buffer.h"
#include "common/cpu/parallel.h"
#include "masking.h"
#include "rounding.h"
#include "strip_kernels.h"

namespace hybatch::contrastive::cpu {

class Logits {
 public:
  // `most_rows`: queries that are packed at a time, a multiple of a panel's rows.
  Logits(const LossInputs& inputs, const StripKernels& kernels, const Parallel& parallel, int64_t most_rows);

  // Makes `count` queries from `first` on those that panels are cut from.
  void PackQueries(int64_t first, int64_t count);

  int64_t num_panels() const { return DivideUp(num_queries_, kernels_.tile.rows); }
  int64_t num_blocks() const { return DivideUp(inputs_.candidates.rows, block_size_); }
  int64_t block_size() const { return block_size_; }  // candidates, a multiple of a tile's lanes
  int64_t first_candidate(int64_t block) const { return block * block_size_; }
  int64_t num_tiles(int64_t block) const;  // of a block
  int64_t first_query(int64_t panel) const { return first_query_ + panel * kernels_.tile.rows; }
  int num_rows(int64_t panel) const;

  const Masking& masking() const { return masking_; }
  // The strip of a panel and a block that is kept at `values`.
  PlacedStrip At(int64_t panel, int64_t block, float* values, int64_t tile_stride) const;

  // Fills that strip; the logits of positives go to positive_logit[q], unless null. `worker` keeps the block that it
  // packed last.
  Strip Compute(int64_t panel, int64_t block, int worker, float* values, int64_t tile_stride, float* positive_logit);

 private:
  struct PackedBlock {
    int64_t block = -1;
    AlignedBuffer values;
    AlignedBuffer partial;  // scratch, one tile
    std::vector<int64_t> keys;
    std::vector<float> bias;
  };

  void PackBlock(int64_t block, PackedBlock& packed) const;
  void Multiply(int64_t panel, PackedBlock& packed, const Strip& strip) const;

  const LossInputs& inputs_;
  const StripKernels& kernels_;
  const Parallel& parallel_;
  Masking masking_;
  int64_t block_size_;
  int64_t first_query_ = 0;
  int64_t num_queries_ = 0;
  AlignedBuffer panels_;
  std::vector<PackedBlock> blocks_;  // per worker
};

}  // namespace hybatch::contrastive::cpu
