"""PEER: whether the candidates of all languages have equal expected ranks (Yang et al. 2024, arXiv 2405.00978).

The p value of a Kruskal-Wallis test over the ranks of the candidates of one level of relevance, a group for each
language, for every query by itself; 1 for languages that share the ranks evenly, near 0 where one is preferred. With a
cutoff X, candidates below place X tie for the places that are left, as the paper's implementation has it for relevant
documents (github.com/hltcoe/peer_measure). Here they do so on every level: to leave those of other levels out would
call a list even in which one language takes all X places.

Q queries, G languages, T candidates of the level within the cutoff, of all queries together.
"""

from __future__ import annotations

import numpy as np
import torch


def equal_rank_probability(
    place_T: np.ndarray, query_T: np.ndarray, group_T: np.ndarray, sizes_QG: np.ndarray
) -> np.ndarray:
    """The p value of each query's Kruskal-Wallis test.

    H = (N - 1) sum_g n_g (r_g - r)^2 / sum_i (r_i - r)^2, for the N candidates of the level with ranks r_i among
    themselves, mean r, and n_g of them with mean r_g in language g; chi-squared with one degree of freedom less than
    there are languages. Ranks that tie are means of their places, which makes this the H that is corrected for ties.

    Args:
        place_T: place from 1, among the candidates of the level, of each that ranks within the cutoff; of one query
            these are 1 .. t.
        query_T, group_T: its query and its language.
        sizes_QG: candidates of the level, in each language, below the cutoff too.

    Returns:
        float64 [Q]. NaN where fewer than two languages have a candidate of the level, and where none has two: groups
        of one give H = N - 1 whatever the order. 1 where no candidate is within the cutoff.
    """
    num_queries, num_groups = sizes_QG.shape
    total_Q = sizes_QG.sum(axis=1)
    within_QG = np.bincount(query_T * num_groups + group_T, minlength=sizes_QG.size).reshape(sizes_QG.shape)
    within_Q = within_QG.sum(axis=1)
    # Deviations from the mean rank (N + 1) / 2, whole or half numbers; those below the cutoff all deviate by t / 2.
    deviation_T = place_T - (total_Q[query_T] + 1) / 2
    sums_QG = np.bincount(query_T * num_groups + group_T, weights=deviation_T, minlength=sizes_QG.size)
    sums_QG = sums_QG.reshape(sizes_QG.shape) + (sizes_QG - within_QG) * (within_Q / 2)[:, None]
    spread_Q = np.bincount(query_T, weights=deviation_T**2, minlength=num_queries)
    spread_Q = spread_Q + (total_Q - within_Q) * (within_Q / 2) ** 2
    between_Q = (sums_QG**2 / np.maximum(sizes_QG, 1)).sum(axis=1)
    statistic_Q = (total_Q - 1) * between_Q / np.where(spread_Q > 0, spread_Q, 1)
    freedom_Q = (sizes_QG > 0).sum(axis=1) - 1
    told = (freedom_Q > 0) & (sizes_QG.max(axis=1, initial=0) > 1)
    p_Q = np.full(num_queries, np.nan)
    p_Q[told] = _chi_squared_tail(statistic_Q[told], freedom_Q[told])
    return p_Q


def _chi_squared_tail(value: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """The probability that a chi-squared variable exceeds `value`: the regularised incomplete gamma function."""
    half_freedom, half_value = (torch.from_numpy(array / 2) for array in (freedom, value))
    return np.asarray(torch.special.gammaincc(half_freedom, half_value).numpy())
