// Which of the compiled instruction sets this processor can run, and which one to use.

#pragma once

#include <string>
#include <vector>

namespace hybatch {

enum class InstructionSet { kPortable, kNeon, kAvx2, kAvx512 };

const char* Name(InstructionSet instruction_set);

// Those that were compiled and that processor and operating system support, fastest first; portable is always there.
std::vector<InstructionSet> SupportedInstructionSets();

// The fastest supported one, or the one that the environment variable HYBATCH_CPU_ISA names. It is read on each call,
// so that a test can compare them in one process. Throws std::invalid_argument if that one cannot run here.
InstructionSet ChosenInstructionSet();

}  // namespace hybatch
