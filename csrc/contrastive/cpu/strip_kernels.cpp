#include "strip_kernels.h"

namespace hybatch::contrastive::cpu {

const StripKernels& StripKernelsFor(InstructionSet instruction_set) {
  switch (instruction_set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return Avx512StripKernels();
    case InstructionSet::kAvx2:
      return Avx2StripKernels();
#elif defined(__aarch64__)
    case InstructionSet::kNeon:
      return NeonStripKernels();
#endif
    default:
      return PortableStripKernels();
  }
}

}  // namespace hybatch::contrastive::cpu
