// The positives of each query in ascending order of their thresholds, and what a score does to them. Host code can
// test it.

#pragma once

#include <cstdint>

#include "common/cuda/host_device.h"

namespace hybatch::ranking::cuda {

// A position is a place in [0, P) after each query's positives have been sorted within offsets[q] .. offsets[q + 1].
struct SortedThresholds {
  float* values;      // [P] by position, NaN last
  int32_t* positive;  // [P] which positive stands at a position
  // [P, G] candidates of a group that beat the threshold at a position and none of a higher one of the same query.
  int32_t* beaten;
};

// The query that owns a positive.
HYBATCH_HD inline int64_t OwnerOf(const int64_t* offsets, int64_t num_queries, int64_t positive) {
  int64_t query = 0, end = num_queries;  // the last query that begins at or before it; empty ones come earlier
  while (end - query > 1) {
    const int64_t middle = (query + end) / 2;
    if (offsets[middle] <= positive) {
      query = middle;
    } else {
      end = middle;
    }
  }
  return query;
}

// A strict order: by value, NaN last, equal ones by number.
HYBATCH_HD inline bool SortsBefore(float a, int64_t number_a, float b, int64_t number_b) {
  const bool a_is_nan = a != a, b_is_nan = b != b;
  if (a_is_nan || b_is_nan) return a_is_nan == b_is_nan ? number_a < number_b : b_is_nan;
  return a < b || (a == b && number_a < number_b);
}

// How many of a query's ascending thresholds are below a value.
HYBATCH_HD inline int32_t NumberBelow(float value, const float* thresholds, int32_t count) {
  int32_t below = 0, end = count;
  while (below < end) {
    const int32_t middle = (below + end) / 2;
    if (thresholds[middle] < value) {
      below = middle + 1;
    } else {
      end = middle;
    }
  }
  return below;
}

// What one score does to the ascending thresholds of its query: sink.Beats(k) once, for the highest threshold k below
// it, and sink.Ties(k) for each equal one. Callers have tested it against the lowest one.
template <class Sink>
HYBATCH_HD inline void CountScore(float score, const float* thresholds, int32_t count, Sink& sink) {
  int32_t place = NumberBelow(score, thresholds, count);
  if (place > 0) sink.Beats(place - 1);
  for (; place < count && thresholds[place] == score; ++place) sink.Ties(place);
}

}  // namespace hybatch::ranking::cuda
