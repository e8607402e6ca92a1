// What the ranking kernels count. Every device implements this header and nothing else; no kernel knows torch.
//
// For each query q, each of its positives p, and each row r of a block of candidates, with
//   j = first_index + r        the candidate's index in the whole pool,
//   g = groups[r]              its group (a language, say),
//   s = score(q, r),  t = thresholds[p]:
//
//   j == positive_index[p]     the positive itself: counted nowhere; status[kSelfHits] += 1 if s == t
//   else s > t                 greater[p, g] += 1
//   else s == t                tied_before[p, g] += 1 if j < positive_index[p], else tied_after[p, g] += 1
//
// Other positives of q are candidates like any other. A group outside [0, num_groups) means that the candidate is
// not counted; it may still be a self-hit. Counters and status are added to, never overwritten, so that blocks,
// threads, devices and processes merge by integer addition, in any order, to the same result.
//
// Arithmetic. score(q, r) is one chain of fused multiply-adds in fp32: acc = +0; for h = 0 .. width - 1:
// acc = fma(query[h], candidate[h], acc), on the exact fp32 values of the inputs, round to nearest even, subnormals
// kept. Neither tiling, nor threads, nor the instruction set, nor the number of queries or candidates changes a bit,
// and a threshold that PairScores returns is bit-equal to the score that the count meets. +0 equals -0.
//
// Codes. Embeddings of type kInt8 are whole numbers, score(q, r) their inner product; those of type kBits are signs in
// bits, score(q, r) the bits that agree minus those that differ. Both are whole and computed as such, in 32 bits; the
// float that holds them here is exact, for the caller sees to it that no score passes 2^24.
//
// Self-hits. Thresholds must come from PairScores with the same inputs; then, over all blocks that hold the positives,
// status[kSelfHits] sums to P. If it does not, a positive may have been counted above its own threshold: the counts of
// that run mean nothing.
//
// Values. status[kQueriesNotFinite] and status[kCandidatesNotFinite] become positive if and only if that matrix holds a
// NaN or an infinity; status[kScoresOverflowed] counts pairs of a finite query and a finite candidate whose score is
// not finite. While these three are zero and all positives have hit themselves, all counts are exact. A query that is
// not finite disturbs no other query.

#pragma once

#include <cstdint>

#include "common/matrix.h"

namespace hybatch::ranking {

enum StatusSlot { kSelfHits = 0, kQueriesNotFinite = 1, kCandidatesNotFinite = 2, kScoresOverflowed = 3, kStatusSlots = 4 };

// scores[p] = score(q, embeddings[rows[p]]) for the query q that owns p.
struct PairScoresTask {
  Matrix queries;
  Matrix embeddings;
  const int64_t* rows;     // [P], each in [0, embeddings.rows); null: rows[p] = p
  const int64_t* offsets;  // [Q + 1]: query q owns the positives offsets[q] .. offsets[q + 1] - 1
  float* scores;           // [P]
};

struct CountAboveTask {
  Matrix queries;
  Matrix candidates;              // one block of the pool
  const float* thresholds;        // [P], from PairScores with the same arithmetic
  const int64_t* positive_index;  // [P], indices in the whole pool
  const int64_t* offsets;         // [Q + 1]
  const int32_t* groups;          // [candidates.rows]
  int64_t first_index;            // first_index + candidates.rows < 2^31
  int64_t num_groups;
  int32_t* greater;      // [P, num_groups]
  int32_t* tied_before;  // [P, num_groups]
  int32_t* tied_after;   // [P, num_groups]
  int64_t* status;       // [kStatusSlots]
};

// The best candidates so far, added to by a count that meets more of them: for each query the `places` best of all
// groups, in any order, and the best of each group. A candidate is better than another if its score is greater, or equal
// and its index smaller. Only candidates that are counted in a group are kept. A place that is empty has index -1 and
// score -infinity. The order of blocks, threads and tiles changes nothing but the order within a query's places.
struct BestCandidatesTask {
  int64_t places;        // K > 0
  float* best_scores;    // [Q, K]
  int64_t* best_index;   // [Q, K], indices in the whole pool
  float* group_scores;   // [Q, num_groups]
  int64_t* group_index;  // [Q, num_groups]
};

}  // namespace hybatch::ranking
