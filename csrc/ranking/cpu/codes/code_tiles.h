// Products of tiles of codes: whole numbers of 8 bits, or signs in bits. They leave their scores as floats, which hold
// them exactly (../../contract.h), so that everything behind the product is that of floating embeddings.
//
// A position of a panel is a word of 4 bytes, in which so many of a vector's codes lie side by side as the instruction
// set multiplies at once. The first position of a candidate holds, as an int32, what its scores begin with.

#pragma once

#include "common/cpu/instruction_set.h"
#include "common/cpu/tile_kernels.h"

namespace hybatch::ranking::cpu {

struct CodeKernels {
  InstructionSet instruction_set;  // whose tiles have as many lanes: its comparisons fit
  const TileKernels& tile;
};

// For codes of `type`, by the fastest instructions of the set, or of the next one below it that has any for them.
CodeKernels CodeKernelsFor(InstructionSet instruction_set, ElementType type);

const TileKernels& PortableInt8Tiles();
const TileKernels& PortableBitTiles();
#if defined(__x86_64__)
const TileKernels& Avx2Int8Tiles();
const TileKernels& Avx2BitTiles();
const TileKernels& Avx512VnniInt8Tiles();
const TileKernels& Avx512VpopcntdqBitTiles();
#elif defined(__aarch64__)
const TileKernels& NeonInt8Tiles();
const TileKernels& NeonBitTiles();
#endif

}  // namespace hybatch::ranking::cpu
