// torch's element types, by torch's numbers.

#pragma once

namespace torch::headeronly {

enum class ScalarType {
  Byte = 0, Char = 1, Int = 3, Long = 4, Half = 5, Float = 6, Double = 7, Bool = 11, BFloat16 = 15
};

}  // namespace torch::headeronly
