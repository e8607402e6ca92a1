"""Ranks by counting: for every positive, how many candidates of each group score above it or tie with it.

One pass over the scores answers every language setting at once: with one group per language, the rank of a positive
among the candidates of language g is 1 + greater[p, g] + tied_before[p, g], and its rank among all candidates is the
same with both summed over g. Nothing is sorted and no matrix of queries by candidates is held.

A rank is 1 + the candidates with a greater score + those with an equal score and a smaller index, as a stable
descending sort gives it. Scores are inner products: normalise the embeddings for cosine similarity.

Embeddings are floating, or codes: whole numbers in int8, or signs in the bits of uint8, whose scores are whole numbers
and exact on every backend (`hybatch.ops.codes`). A score of codes may not pass 2^24, which is looked after with
`validate`, and can happen with int8 from 1,025 dimensions on.

Options that `rank_counts` and `RankCounter` share:

precision: fp32, tf32, bf16 or fp16: what the embeddings are rounded to, to nearest, before they are multiplied. Sums
    are float32 or better, and fp32 is exact in this sense: every candidate's score, the positive's own included, comes
    from the same arithmetic, so equal embeddings tie and no count depends on block shapes, threads or order. The torch
    backend computes scores in float64.
rescore: with a precision below fp32, give the counts of fp32 on the embeddings as they are given all the same. On
    Hopper GPUs the lower precision then settles every candidate that rounding cannot bring to the other side of a
    threshold, and fp32 the others; elsewhere fp32 settles all of them.
validate: check indices, groups, offsets and values. `rank_counts` then waits for the device three times: before it
    scores the positives, after that, and after the count (for int8 codes of 1,025 dimensions or more, twice more; what
    `best` and the torch backend read by themselves comes on top). Without it shapes and dtypes are still checked but
    nothing is read back from the device by this module or a compiled backend: out-of-range indices are undefined
    behaviour, candidates in groups out of range are not counted, and positives whose counts mean nothing because of
    NaN, infinity or overflow come back as -1.
best: K > 0 to keep the K best candidates of every query as well, and the best one of each group, see `RankCounts.best`;
    precision must be fp32. Where the counts of a query's positives are -1 for want of validation they mean nothing. On
    CUDA this reads back from the device. The compiled CPU backend keeps them as it counts, at a fraction of the cost of
    the scores; the others multiply once more.
backend: auto, torch, cpu or cuda.

Shapes: Q queries, D candidates, P positives (all queries together), G groups, H embedding width.
"""

from hybatch.ops.ranking.best import BestCandidates
from hybatch.ops.ranking.counter import RankCounter
from hybatch.ops.ranking.counts import RankCounts
from hybatch.ops.ranking.in_one_pass import rank_counts

__all__ = ["BestCandidates", "RankCounter", "RankCounts", "rank_counts"]
