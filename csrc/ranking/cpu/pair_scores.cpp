#include <algorithm>
#include <vector>

#include "common/cpu/aligned_buffer.h"
#include "rank_counts.h"
#include "rank_kernels.h"

namespace hybatch::ranking::cpu {

void PairScores(const PairScoresTask& task, InstructionSet instruction_set, const Parallel& parallel) {
  constexpr int64_t kQueriesPerItem = 64;
  const RankKernels kernels = RankKernelsFor(instruction_set, task.queries.type);
  const int64_t num_queries = task.queries.rows;
  const int64_t scratch_size = kPairScratchRows * task.queries.width;
  const AlignedBuffer scratch = MakeAlignedBuffer(parallel.workers * scratch_size);
  const int64_t items = (num_queries + kQueriesPerItem - 1) / kQueriesPerItem;
  ForEachItem(parallel, items, [&](int64_t item, int worker) {
    const int64_t first = item * kQueriesPerItem;
    const int64_t end = std::min(first + kQueriesPerItem, num_queries);
    kernels.pair_scores(task, first, end, scratch.get() + worker * scratch_size);
  });
}

}  // namespace hybatch::ranking::cpu
