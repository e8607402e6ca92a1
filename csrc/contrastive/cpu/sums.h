// Sums of exponentials as (largest exponent, sum relative to it), and how they are joined.

#pragma once

#include <cmath>
#include <limits>

namespace hybatch::contrastive::cpu {

// A minus infinity as a subtrahend would make NaN of weights that are 0.
inline float Finite(float lse) { return lse == -std::numeric_limits<float>::infinity() ? 0.0f : lse; }

struct ExponentialSum {
  float maximum = -std::numeric_limits<float>::infinity();
  double sum = 0;

  void Add(float other_maximum, double other_sum) {
    if (other_sum == 0) return;
    const float larger = other_maximum > maximum ? other_maximum : maximum;
    const double kept = sum == 0 ? 0 : sum * std::exp(static_cast<double>(maximum) - larger);
    sum = kept + other_sum * std::exp(static_cast<double>(other_maximum) - larger);
    maximum = larger;
  }

  double Log() const { return sum == 0 ? -std::numeric_limits<double>::infinity() : std::log(sum); }
  float LogSumExp() const { return static_cast<float>(sum == 0 ? Log() : maximum + Log()); }
};

}  // namespace hybatch::contrastive::cpu
