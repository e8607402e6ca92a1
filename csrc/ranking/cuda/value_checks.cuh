// NaN, infinity and the possibility of overflow.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "rank_counts.h"

namespace hybatch::ranking::cuda {

enum NormSlot { kQueryNorm = 0, kCandidateNorm = 1, kNormSlots = 2 };

// Adds 1 to status[kQueriesNotFinite] or status[kCandidatesNotFinite] per row that is not finite, and takes the
// largest squared norm of the finite rows into norms[slot], which holds the bits of a double >= 0.
void CheckValues(const Values& values, NormSlot slot, unsigned long long* norms, int64_t* status, cudaStream_t stream);

// Adds 1 to status[kScoresOverflowed] if the norms multiply to 2^126 or more. Below that no partial sum overflows.
void CheckOverflow(const unsigned long long* norms, int64_t* status, cudaStream_t stream);

}  // namespace hybatch::ranking::cuda
