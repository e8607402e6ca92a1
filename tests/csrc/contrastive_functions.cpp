// How the loss's CUDA kernels divide their work and join their sums, for Python.

#include <cstdint>

#include "contrastive/cuda/generic_schedule.h"
#include "contrastive/cuda/hopper_arithmetic.h"
#include "contrastive/cuda/hopper_schedule.h"
#include "contrastive/cuda/logits.cuh"

using namespace hybatch::contrastive::cuda;  // NOLINT: a test

extern "C" {

void JoinPair(const ExponentialSum* a, const ExponentialSum* b, ExponentialSum* joined) { *joined = Join(*a, *b); }
float LogSumExpOf(const ExponentialSum* sum) { return LogSumExp(*sum); }
float WeightFactorOf(float largest) { return WeightFactor(largest); }
int64_t GenericSlabRows(int64_t queries, int64_t candidates) { return SlabRows(queries, candidates); }
int64_t HopperSlabRowsOf(int64_t queries, int64_t candidates) { return HopperSlabRows(queries, candidates); }
int64_t WeightStrideOf(int64_t candidates) { return WeightStride(candidates); }
void DealTilesOf(int64_t rows, int64_t columns, int32_t multiprocessors, TileShares* shares) {
  *shares = DealTiles(rows, columns, multiprocessors);
}
void SplitProductOf(int64_t rows, int64_t columns, int64_t terms, int32_t multiprocessors, ProductItems* items) {
  *items = SplitProduct(rows, columns, terms, kMostSplits, multiprocessors);
}
}
