// The CPU's implementation of ../contract.h.

#pragma once

#include "../contract.h"
#include "common/cpu/instruction_set.h"
#include "common/cpu/parallel.h"

namespace hybatch::ranking::cpu {

void PairScores(const PairScoresTask& task, InstructionSet instruction_set, const Parallel& parallel);
void CountAbove(const CountAboveTask& task, InstructionSet instruction_set, const Parallel& parallel);
// The count, and the best candidates beside it.
void CountAndKeep(const CountAboveTask& task, const BestCandidatesTask& best, InstructionSet instruction_set,
                  const Parallel& parallel);

}  // namespace hybatch::ranking::cpu
