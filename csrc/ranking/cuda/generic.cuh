// The path for every architecture: one chain of fp32 fused multiply-adds per score, bit-equal to the CPU's.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "candidate_tiles.cuh"
#include "rank_counts.h"
#include "thresholds.cuh"

namespace hybatch::ranking::cuda {

constexpr int kGenericTile = 128;  // queries, and candidates, of a tile

void GenericPairScores(const PairScoresTask& task, int64_t num_positives, ElementKind kind, cudaStream_t stream);

void GenericCount(const CountAboveTask& task, ElementKind kind, const CandidateTiles& tiles,
                  const SortedThresholds& sorted, const DeviceTraits& device, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
