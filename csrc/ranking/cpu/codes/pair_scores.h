// Thresholds of codes, for any processor.

#pragma once

#include "../../contract.h"

namespace hybatch::ranking::cpu {

// For queries first .. end - 1.
void PairScoresOfInt8(const PairScoresTask& task, int64_t first, int64_t end, float* scratch);
void PairScoresOfBits(const PairScoresTask& task, int64_t first, int64_t end, float* scratch);

}  // namespace hybatch::ranking::cpu
