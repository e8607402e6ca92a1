// The CPU's implementation of ../contract.h. Results do not depend on the number of workers, bit for bit.

#pragma once

#include "../contract.h"
#include "ranking/cpu/instruction_set.h"
#include "ranking/cpu/parallel.h"

namespace hybatch::contrastive::cpu {

void Forward(const ForwardTask& task, ranking::cpu::InstructionSet instruction_set,
             const ranking::cpu::Parallel& parallel);
void Backward(const BackwardTask& task, ranking::cpu::InstructionSet instruction_set,
              const ranking::cpu::Parallel& parallel);
void ForwardBackward(const ForwardBackwardTask& task, ranking::cpu::InstructionSet instruction_set,
                     const ranking::cpu::Parallel& parallel);

}  // namespace hybatch::contrastive::cpu
