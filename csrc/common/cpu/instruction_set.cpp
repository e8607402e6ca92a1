#include "instruction_set.h"

#include <cstdlib>
#include <stdexcept>

namespace hybatch {

const char* Name(InstructionSet instruction_set) {
  switch (instruction_set) {
    case InstructionSet::kAvx512:
      return "avx512";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kNeon:
      return "neon";
    case InstructionSet::kPortable:
      return "portable";
  }
  return "unknown";
}

std::vector<InstructionSet> SupportedInstructionSets() {
  std::vector<InstructionSet> supported;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  if (avx2 && __builtin_cpu_supports("avx512f")) supported.push_back(InstructionSet::kAvx512);
  if (avx2) supported.push_back(InstructionSet::kAvx2);
#elif defined(__aarch64__)
  supported.push_back(InstructionSet::kNeon);  // part of the architecture
#endif
  supported.push_back(InstructionSet::kPortable);
  return supported;
}

InstructionSet ChosenInstructionSet() {
  const std::vector<InstructionSet> supported = SupportedInstructionSets();
  const char* wanted = std::getenv("HYBATCH_CPU_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported.front();
  std::string names;
  for (const InstructionSet candidate : supported) {
    if (wanted == std::string(Name(candidate))) return candidate;
    names += std::string(names.empty() ? "" : ", ") + Name(candidate);
  }
  throw std::invalid_argument("HYBATCH_CPU_ISA=" + std::string(wanted) + " cannot run here; use one of: " + names);
}

}  // namespace hybatch
