// The precisions that counts can be asked for in, and how elements are read for each.

#pragma once

#include "common/cuda/elements.h"

namespace hybatch::ranking::cuda {

enum class Precision {
  kExact,   // one fp32 chain, on the elements as they are stored
  kTf32,    // fp32 elements rounded to tf32; tensor cores where there is a kernel for the device
  kStored,  // 16-bit elements as they are stored; likewise
  // The counts of kExact, most of them from tensor cores where there is a kernel for the device: 16-bit elements enter
  // these as they are stored, fp32 elements rounded to
  kRescoredTf32,
  kRescoredBFloat16,
  kRescoredFloat16
};

inline bool IsRescored(Precision precision) {
  return precision == Precision::kRescoredTf32 || precision == Precision::kRescoredBFloat16 ||
         precision == Precision::kRescoredFloat16;
}

// How elements are read for the scores that the counts speak of.
inline ElementKind KindOf(ElementType type, Precision precision) {
  const ElementKind stored = StoredKind(type);
  return stored == ElementKind::kFloat32 && precision == Precision::kTf32 ? ElementKind::kTf32 : stored;
}

// How elements enter the tensor cores.
inline ElementKind TensorCoreKindOf(ElementType type, Precision precision) {
  if (type == ElementType::kFloat32 && precision == Precision::kRescoredTf32) return ElementKind::kTf32;
  if (type == ElementType::kFloat32 && precision == Precision::kRescoredBFloat16) return ElementKind::kBFloat16;
  if (type == ElementType::kFloat32 && precision == Precision::kRescoredFloat16) return ElementKind::kFloat16;
  return KindOf(type, precision);
}

// Calls body with how elements are stored and how they enter the tensor cores, as compile-time constants.
template <class Body>
void WithTensorCoreKind(ElementType stored, ElementKind kind, Body&& body) {
  if (stored == ElementType::kBFloat16) {
    body.template operator()<ElementKind::kBFloat16, ElementKind::kBFloat16>();
  } else if (stored == ElementType::kFloat16) {
    body.template operator()<ElementKind::kFloat16, ElementKind::kFloat16>();
  } else if (kind == ElementKind::kBFloat16) {
    body.template operator()<ElementKind::kFloat32, ElementKind::kBFloat16>();
  } else if (kind == ElementKind::kFloat16) {
    body.template operator()<ElementKind::kFloat32, ElementKind::kFloat16>();
  } else {
    body.template operator()<ElementKind::kFloat32, ElementKind::kTf32>();
  }
}

}  // namespace hybatch::ranking::cuda
