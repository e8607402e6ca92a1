// How far a score from the tensor cores can lie from the fp32 chain's. Host code can test it.
//
// q and c are two rows as they were given, q' and c' the same as they were rounded for the tensor cores, H their width,
// s the score of q and c by the fp32 chain, t that of q' and c' by the tensor cores. |t - s| is at most the sum of
//
//   |q'c' - qc|  <=  |q' - q| |c'| + |q| |c' - c|: the product rule and Cauchy-Schwarz.
//
//   |qc - s|  <=  R / (1 - R) |q| |c| with R = H 2^-24: H roundings to nearest, each of a partial sum.
//
//   |t - q'c'|  <=  C / (1 - C) |q'| |c'| with C = (3 H + 3) / 2 x 2^-22.
//     Products of two significands of at most 11 bits are exact. How they are added NVIDIA does not say; experiments
//     (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ CS 7:e330, 2021; Khattak and Mikaitis, Accurate
//     models of NVIDIA tensor cores, arXiv 2512.07004) find that groups of products and the accumulator are aligned to
//     the largest of these terms, cut off below a last place near that of its fp32, added, and the sum is cut to fp32.
//     Assumed here: groups of at least 4 products, a last place of at most 2^-22 of the largest term. Each group then
//     makes two more cuts than it has products, of the accumulator and of the sum: at most H + 2 (H + 3) / 4 in all. No
//     term exceeds the sum of all |q'_h c'_h| plus the errors so far, which gives C times that sum, and with it the
//     bound. A GPU test compares the assumption with the device at hand, and every run fails whose positives, of all
//     pairs, lie outside the band: they do not meet themselves.
//
//   2^-125 (H + 1) (1 + |q'| + |c'|): whatever is subnormal (an element, a product, a sum) may be taken for zero.

#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>

#include "common/cuda/elements.h"
#include "common/cuda/host_device.h"

namespace hybatch::ranking::cuda {

// Of one row, or the largest of several rows. Infinite where a row is not finite.
struct RowSize {
  float norm;      // max(|x|, |x'|)
  float residual;  // |x' - x|
};

// Of all scores of a width.
struct BandTerms {
  float relative;
  float absolute;
};

// The next fp32 at or above a value; infinity for what is not a number.
HYBATCH_HD inline float RoundUp(double value) {
  if (!(value <= FLT_MAX)) return FloatFromBits(0x7f800000u);
#ifdef __CUDA_ARCH__
  return __double2float_ru(value);
#else
  const auto nearest = static_cast<float>(value);
  return nearest < value ? std::nextafter(nearest, std::numeric_limits<float>::infinity()) : nearest;
#endif
}

// From sums of squares over a row; a millionth more covers the rounding of these sums.
HYBATCH_HD inline RowSize RowSizeOf(double given, double rounded, double difference) {
  constexpr double kMore = 1 + 0x1p-20;
  const double larger = given < rounded || rounded != rounded ? rounded : given;  // not a number stays
  return {RoundUp(sqrt(larger) * kMore), RoundUp(sqrt(difference) * kMore)};
}

inline BandTerms BandTermsOf(int64_t width) {
  const auto count = static_cast<double>(width);
  const double cuts = (1.5 * count + 1.5) * 0x1p-22, roundings = count * 0x1p-24;
  const double relative = cuts / (1 - cuts) + roundings / (1 - roundings);
  if (cuts >= 0.5) return {std::numeric_limits<float>::infinity(), 0};  // nothing is certain at such widths
  return {RoundUp(relative), RoundUp(0x1p-125 * (count + 1))};
}

// At least |t - s| of a query and any candidate of a tile; infinity if that is not known.
HYBATCH_HD inline float BandOf(const RowSize& query, const RowSize& tile, const BandTerms& terms) {
  const float sum = query.residual * tile.norm + query.norm * (tile.residual + terms.relative * tile.norm) +
                    terms.absolute * (1 + query.norm + tile.norm);
  const float band = sum * (1 + 0x1p-20f);  // the rounding of this very line and the one before
  return band <= FLT_MAX ? band : FloatFromBits(0x7f800000u);
}

// score - band and score + band, rounded outwards.
HYBATCH_HD inline float LowerEnd(float score, float band) {
#ifdef __CUDA_ARCH__
  return __fsub_rd(score, band);
#else
  return std::nextafter(score - band, -std::numeric_limits<float>::infinity());
#endif
}
HYBATCH_HD inline float UpperEnd(float score, float band) {
#ifdef __CUDA_ARCH__
  return __fadd_ru(score, band);
#else
  return std::nextafter(score + band, std::numeric_limits<float>::infinity());
#endif
}

}  // namespace hybatch::ranking::cuda
