// The CPU's implementation of ../contract.h. Results do not depend on the number of workers, bit for bit.

#pragma once

#include "../contract.h"
#include "common/cpu/instruction_set.h"
#include "common/cpu/parallel.h"

namespace hybatch::contrastive::cpu {

void Forward(const ForwardTask& task, InstructionSet instruction_set, const Parallel& parallel);
void Backward(const BackwardTask& task, InstructionSet instruction_set, const Parallel& parallel);
void ForwardBackward(const ForwardBackwardTask& task, InstructionSet instruction_set, const Parallel& parallel);

}  // namespace hybatch::contrastive::cpu
