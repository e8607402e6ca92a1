#include "tile_kernels.h"

namespace hybatch::ranking::cpu {

const TileKernels& KernelsFor(InstructionSet instruction_set) {
  switch (instruction_set) {
#if defined(__x86_64__)
    case InstructionSet::kAvx512:
      return Avx512Kernels();
    case InstructionSet::kAvx2:
      return Avx2Kernels();
#endif
    default:
      return PortableKernels();
  }
}

}  // namespace hybatch::ranking::cpu
