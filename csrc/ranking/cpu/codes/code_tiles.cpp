#include "code_tiles.h"

namespace hybatch::ranking::cpu {
namespace {

#if defined(__x86_64__)
bool HasAvx512For(ElementType type) {
  return type == ElementType::kInt8 ? __builtin_cpu_supports("avx512vnni")
                                    : __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

}  // namespace

CodeKernels CodeKernelsFor(InstructionSet instruction_set, ElementType type) {
  const bool whole_numbers = type == ElementType::kInt8;
#if defined(__x86_64__)
  if (instruction_set == InstructionSet::kAvx512 && HasAvx512For(type)) {
    return {InstructionSet::kAvx512, whole_numbers ? Avx512VnniInt8Tiles() : Avx512VpopcntdqBitTiles()};
  }
  if (instruction_set == InstructionSet::kAvx512 || instruction_set == InstructionSet::kAvx2) {
    return {InstructionSet::kAvx2, whole_numbers ? Avx2Int8Tiles() : Avx2BitTiles()};
  }
#elif defined(__aarch64__)
  if (instruction_set == InstructionSet::kNeon) {
    return {InstructionSet::kNeon, whole_numbers ? NeonInt8Tiles() : NeonBitTiles()};
  }
#endif
  return {InstructionSet::kPortable, whole_numbers ? PortableInt8Tiles() : PortableBitTiles()};
}

}  // namespace hybatch::ranking::cpu
