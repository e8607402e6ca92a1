#include "rank_kernels.h"

#include "codes/code_tiles.h"
#include "codes/pair_scores.h"

namespace hybatch::ranking::cpu {
namespace {

const RankKernels& FloatKernelsFor(InstructionSet instruction_set) {
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

}  // namespace

RankKernels RankKernelsFor(InstructionSet instruction_set, ElementType type) {
  if (!IsCode(type)) return FloatKernelsFor(instruction_set);
  const CodeKernels codes = CodeKernelsFor(instruction_set, type);
  RankKernels kernels = FloatKernelsFor(codes.instruction_set);
  kernels.tile = codes.tile;
  kernels.pair_scores = type == ElementType::kInt8 ? &PairScoresOfInt8 : &PairScoresOfBits;
  return kernels;
}

}  // namespace hybatch::ranking::cpu
