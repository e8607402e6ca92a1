// The count: candidate blocks are packed by the worker that takes them, then every query panel passes by. The best
// candidates, where they are wanted, are looked for among the scores of a panel with a block once these are all there.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "best_candidates.h"
#include "candidate_blocks.h"
#include "packed_queries.h"
#include "rank_counts.h"
#include "rank_kernels.h"

namespace hybatch::ranking::cpu {
namespace {

constexpr int64_t kBlockBytes = 768 * 1024;  // of packed candidates: most of a core's second-level cache
constexpr int64_t kLargestBlock = 2048;
constexpr int64_t kDepth = 384;  // hidden positions per pass: a query panel of that depth fits the first-level cache
constexpr int64_t kItemsPerWorker = 32;
constexpr int64_t kTilesPerCount = 16;  // whose scores, of one panel, still lie in the first-level cache
constexpr int64_t kTilesPerLook = 8;  // at one query's scores for its best: then it is known better what to look for
constexpr int64_t kFewestPanelsPerItem = 32;  // fewer would not pay for packing the candidates

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

void AddTo(int32_t& counter, int32_t value) {
  __atomic_fetch_add(&counter, value, __ATOMIC_RELAXED);  // Apple's library has no std::atomic_ref yet
}

// How the product is cut up; none of it changes a result.
struct Tiling {
  Tiling(const CountAboveTask& task, const TileKernels& tile) {
    positions = tile.Positions(task.queries.width);
    const int64_t some = std::max<int64_t>(positions, 1);
    const int64_t fitting = kBlockBytes / static_cast<int64_t>(sizeof(float)) / some / tile.lanes * tile.lanes;
    block_size = std::clamp<int64_t>(fitting, tile.lanes, kLargestBlock);
    passes = tile.shape.resumes ? DivideUp(some, kDepth) : 1;
    depth = DivideUp(some, passes);
  }
  int64_t positions;  // of a panel
  int64_t block_size;
  int64_t passes;
  int64_t depth;
};

// One worker's block of packed candidates and what it has seen.
struct Worker {
  CandidateBlock block;
  AlignedBuffer candidates;
  std::vector<PanelSummary> summaries;  // of the block's tiles
  float largest = 0.0f;                 // magnitude, over the block's candidates that are finite
  AlignedBuffer scores;
  std::vector<int32_t> beaten;
  std::vector<ReachingScore> reaching;
  int64_t self_hits = 0;
  int64_t candidates_not_finite = 0;
  int64_t scores_overflowed = 0;
};

class Counter {
 public:
  Counter(const CountAboveTask& task, BestCandidates* best, const RankKernels& kernels, const Parallel& parallel)
      : task_(task),
        best_(best),
        kernels_(kernels),
        tile_(kernels.tile),
        parallel_(parallel),
        tiling_(task, kernels.tile),
        queries_(task, kernels.tile, parallel),
        candidates_(CutIntoBlocks(task.groups, task.candidates.rows, task.num_groups, tiling_.block_size)),
        panel_locks_(best == nullptr ? nullptr : new std::mutex[queries_.panels()]) {}

  void Run();

 private:
  struct TieContext {
    const Counter* counter;
    Worker* worker;
    int64_t first;  // candidate position of the first tile's lane 0
  };

  Worker MakeWorker() const;
  void PackBlock(const CandidateBlock& block, Worker& worker) const;
  void CountPanel(int64_t panel, Worker& worker) const;
  void CountTiles(int64_t panel, int64_t first, int64_t end, Worker& worker) const;
  void CountOverflows(int64_t panel, int64_t tile, Worker& worker) const;
  void AddBeaten(int64_t panel, const Worker& worker) const;
  void KeepBest(int64_t panel, Worker& worker) const;
  static void CountTie(void* context, int64_t position, int64_t place);
  void WriteStatus(const std::vector<Worker>& workers) const;

  float* Scores(Worker& worker, int64_t tile) const {
    return worker.scores.get() + tile * tile_.rows * tile_.lanes;
  }
  uint32_t LanesInUse(const Worker& worker, int64_t tile) const {
    const int64_t rest = worker.block.count - tile * tile_.lanes;
    return rest >= 32 || rest >= tile_.lanes ? ~0u >> (32 - tile_.lanes) : (1u << rest) - 1;
  }

  const CountAboveTask& task_;
  BestCandidates* const best_;  // null: not wanted
  const RankKernels& kernels_;
  const TileKernels& tile_;
  const Parallel& parallel_;
  const Tiling tiling_;
  const PackedQueries queries_;
  const CandidateBlocks candidates_;
  const std::unique_ptr<std::mutex[]> panel_locks_;  // of the queries in best_
};

Worker Counter::MakeWorker() const {
  const int64_t tiles = DivideUp(tiling_.block_size, tile_.lanes);
  Worker worker;
  worker.candidates = MakeAlignedBuffer(tiles * tile_.lanes * tiling_.positions);
  worker.summaries.resize(tiles);
  worker.scores = MakeAlignedBuffer(tiles * tile_.rows * tile_.lanes);
  worker.beaten.resize(queries_.largest_panel());
  if (best_ != nullptr) worker.reaching.resize(kTilesPerLook * tile_.lanes);
  return worker;
}

void Counter::Run() {
  std::vector<Worker> workers;
  for (int i = 0; i < parallel_.workers; ++i) workers.push_back(MakeWorker());
  // Queries are shared out too where blocks alone are too few to keep the workers busy to the end.
  const int64_t blocks = static_cast<int64_t>(candidates_.blocks.size());
  const int64_t wanted = DivideUp(kItemsPerWorker * parallel_.workers, std::max<int64_t>(blocks, 1));
  const int64_t parts = std::clamp<int64_t>(queries_.panels() / kFewestPanelsPerItem, 1, wanted);
  ForEachItem(parallel_, blocks * parts, [&](int64_t item, int index) {
    Worker& worker = workers[index];
    const int64_t part = item % parts;
    PackBlock(candidates_.blocks[item / parts], worker);
    const int64_t end = queries_.panels() * (part + 1) / parts;
    for (int64_t panel = queries_.panels() * part / parts; panel < end; ++panel) CountPanel(panel, worker);
  });
  WriteStatus(workers);
}

void Counter::PackBlock(const CandidateBlock& block, Worker& worker) const {
  const int32_t* order = candidates_.order.empty() ? nullptr : candidates_.order.data();
  worker.block = block;
  worker.largest = 0.0f;
  for (int64_t tile = 0; tile * tile_.lanes < block.count; ++tile) {
    const int64_t begin = tile * tile_.lanes;
    const int count = static_cast<int>(std::min<int64_t>(tile_.lanes, block.count - begin));
    float* panel = worker.candidates.get() + begin * tiling_.positions;
    worker.summaries[tile] = tile_.pack_candidates({task_.candidates, order, block.first + begin, count}, panel);
    worker.largest = std::max(worker.largest, worker.summaries[tile].largest);
    const uint32_t in_use = LanesInUse(worker, tile);
    worker.candidates_not_finite += (worker.summaries[tile].finite & in_use) != in_use;
  }
}

void Counter::CountPanel(int64_t panel, Worker& worker) const {
  const int64_t tiles = DivideUp(worker.block.count, tile_.lanes);
  std::fill_n(worker.beaten.begin(), queries_.end_position(panel) - queries_.first_position(panel), 0);
  for (int64_t pass = 0; pass < tiling_.passes; ++pass) {
    const int64_t begin = pass * tiling_.depth;
    const int64_t depth = std::min(tiling_.depth, tiling_.positions - begin);
    const float* queries = queries_.values(panel) + begin * tile_.rows;
    const bool is_last = pass + 1 == tiling_.passes;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const float* candidates = worker.candidates.get() + (tile * tiling_.positions + begin) * tile_.lanes;
      tile_.multiply(queries, candidates, depth, pass > 0, Scores(worker, tile));
      const int64_t uncounted = tile % kTilesPerCount + 1;
      if (is_last && (uncounted == kTilesPerCount || tile + 1 == tiles)) {
        CountTiles(panel, tile + 1 - uncounted, tile + 1, worker);
      }
    }
  }
  AddBeaten(panel, worker);
  if (best_ != nullptr) KeepBest(panel, worker);
}

void Counter::CountTiles(int64_t panel, int64_t first, int64_t end, Worker& worker) const {
  TieContext context = {this, &worker, worker.block.first + first * tile_.lanes};
  PanelCount count;
  count.scores = Scores(worker, first);
  count.tiles = end - first;
  count.rows = tile_.rows;
  count.num_queries = queries_.num_queries(panel);
  count.last_lanes = LanesInUse(worker, end - 1);
  count.offsets = task_.offsets + queries_.first_query(panel);
  count.thresholds = queries_.thresholds();
  count.lowest = queries_.lowest(panel);
  count.beaten = worker.beaten.data();
  count.tie = &CountTie;
  count.context = &context;
  kernels_.count(count);
  // No partial sum can overflow below this bound; half the range leaves room for its own rounding.
  const double bound = static_cast<double>(task_.queries.width) * queries_.summary(panel).largest * worker.largest;
  if (bound <= std::numeric_limits<float>::max() / 2) return;
  for (int64_t tile = first; tile < end; ++tile) CountOverflows(panel, tile, worker);
}

void Counter::CountOverflows(int64_t panel, int64_t tile, Worker& worker) const {
  const float* scores = Scores(worker, tile);
  const uint32_t lanes = worker.summaries[tile].finite & LanesInUse(worker, tile);
  for (int i = 0; i < queries_.num_queries(panel); ++i) {
    if ((queries_.summary(panel).finite >> i & 1) == 0) continue;
    for (int lane = 0; lane < tile_.lanes; ++lane) {
      if ((lanes >> lane & 1) == 0) continue;
      worker.scores_overflowed += !std::isfinite(scores[i * tile_.lanes + lane]);
    }
  }
}

// A score that beats a threshold beats all lower ones of its query.
void Counter::AddBeaten(int64_t panel, const Worker& worker) const {
  if (worker.block.group == kNoGroup) return;
  const int64_t base = queries_.first_position(panel);
  const int64_t* offsets = task_.offsets + queries_.first_query(panel);
  for (int i = 0; i < queries_.num_queries(panel); ++i) {
    int32_t above = 0;
    for (int64_t position = offsets[i + 1] - 1; position >= offsets[i]; --position) {
      above += worker.beaten[position - base];
      if (above == 0) continue;
      AddTo(task_.greater[queries_.positive(position) * task_.num_groups + worker.block.group], above);
    }
  }
}

void Counter::KeepBest(int64_t panel, Worker& worker) const {
  if (worker.block.group == kNoGroup) return;
  const CandidateBlock& block = worker.block;
  const int64_t tiles = DivideUp(block.count, tile_.lanes);
  const int32_t* order = candidates_.order.empty() ? nullptr : candidates_.order.data();
  const std::lock_guard<std::mutex> lock(panel_locks_[panel]);
  for (int i = 0; i < queries_.num_queries(panel); ++i) {
    const int64_t query = queries_.first_query(panel) + i;
    for (int64_t tile = 0; tile < tiles; tile += kTilesPerLook) {
      const int64_t end = std::min(tile + kTilesPerLook, tiles);
      const float* scores = worker.scores.get() + (tile * tile_.rows + i) * tile_.lanes;
      const ScoreRow row = {scores, tile_.rows * tile_.lanes, end - tile, LanesInUse(worker, end - 1)};
      ReachingScore* found = worker.reaching.data();
      const int64_t count = kernels_.reaching(row, best_->lowest(query), best_->best(query, block.group), found);
      best_->Offer(query, block.group, {found, count, block.first + tile * tile_.lanes, order});
    }
  }
}

void Counter::CountTie(void* opaque, int64_t position, int64_t place_in_tiles) {
  const TieContext& context = *static_cast<const TieContext*>(opaque);
  const Counter& counter = *context.counter;
  const CountAboveTask& task = counter.task_;
  const int64_t place = context.first + place_in_tiles;
  const int64_t row = counter.candidates_.order.empty() ? place : counter.candidates_.order[place];
  const int64_t positive = counter.queries_.positive(position);
  const int64_t index = task.first_index + row;
  const int64_t own_index = task.positive_index[positive];
  if (index == own_index) {
    ++context.worker->self_hits;
  } else if (context.worker->block.group != kNoGroup) {
    int32_t* counts = index < own_index ? task.tied_before : task.tied_after;
    AddTo(counts[positive * task.num_groups + context.worker->block.group], 1);
  }
}

void Counter::WriteStatus(const std::vector<Worker>& workers) const {
  task_.status[kQueriesNotFinite] += !queries_.finite();
  for (const Worker& worker : workers) {
    task_.status[kSelfHits] += worker.self_hits;
    task_.status[kCandidatesNotFinite] += worker.candidates_not_finite;
    task_.status[kScoresOverflowed] += worker.scores_overflowed;
  }
}

}  // namespace

void CountAbove(const CountAboveTask& task, InstructionSet instruction_set, const Parallel& parallel) {
  const RankKernels kernels = RankKernelsFor(instruction_set, task.queries.type);
  Counter(task, nullptr, kernels, parallel).Run();
}

void CountAndKeep(const CountAboveTask& task, const BestCandidatesTask& best, InstructionSet instruction_set,
                  const Parallel& parallel) {
  const RankKernels kernels = RankKernelsFor(instruction_set, task.queries.type);
  BestCandidates candidates(task, best, parallel);
  Counter(task, &candidates, kernels, parallel).Run();
  candidates.Write(parallel);
}

}  // namespace hybatch::ranking::cpu
