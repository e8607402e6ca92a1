#include "rank_kernels.h"

namespace hybatch::ranking::cpu {

const RankKernels& RankKernelsFor(InstructionSet instruction_set) {
  switch (instruction_set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return Avx512RankKernels();
    case InstructionSet::kAvx2:
      return Avx2RankKernels();
#elif defined(__aarch64__)
    case InstructionSet::kNeon:
      return NeonRankKernels();
#endif
    default:
      return PortableRankKernels();
  }
}

}  // namespace hybatch::ranking::cpu
