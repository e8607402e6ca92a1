// The path for every architecture: one chain of fp32 fused multiply-adds per score, bit-equal to the CPU's.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "candidate_tiles.cuh"
#include "rank_counts.h"
#include "rescoring.h"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {

constexpr int kGenericTile = 128;  // queries, and candidates, of a tile

void GenericPairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream);

// With a queue, only if that has overflowed: what is queued on the stream exits at once otherwise.
void GenericCount(const CountAboveTask& task, ElementKind kind, const CandidateTiles& tiles,
                  const SortedThresholds& sorted, const RescoringQueue* only_if_overflowed, const DeviceTraits& device,
                  cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
