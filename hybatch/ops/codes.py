"""Vectors of codes: whole numbers in 8 bits, and signs in 1 bit, whose scores are whole numbers.

int8 [N, H]: scored by the inner product. uint8 [N, B]: 8 B signs in bits, as numpy.packbits leaves them, scored by the
inner product of signs +1 and -1, that is, the bits that agree minus those that differ: 8 B - 2 x Hamming distance. Bits
that pad the last byte agree in all rows and add the same to every score.

Sums of whole numbers are exact in any order, so every backend gives the same scores. The compiled ones keep a score as
a float32, which holds each whole number up to 2^24.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGNS = torch.uint8
CODE_DTYPES = (torch.int8, SIGNS)
LARGEST_EXACT = 2**24
_ROWS_AT_ONCE = 2**14


def unpack_signs(bits_NB: Tensor) -> Tensor:
    """int8 [N, 8 B]: +1 where the bit is set, else -1; the first bit of a byte is its highest."""
    shifts_8 = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits_NB.device)
    bits_NB8 = (bits_NB[:, :, None] >> shifts_8) & 1
    return (2 * bits_NB8.to(torch.int8) - 1).flatten(1)


def values_of(rows_NH: Tensor) -> Tensor:
    """Rows whose inner products are the scores: signs unpacked, all others as they are."""
    return unpack_signs(rows_NH) if rows_NH.dtype == SIGNS else rows_NH


def largest_square(rows_NH: Tensor) -> int:
    """The greatest squared length of int8 rows; of others, and where no score of their width can pass 2^24, 0."""
    if rows_NH.dtype != torch.int8 or rows_NH.size(1) * 2**14 <= LARGEST_EXACT:
        return 0
    parts = (part.to(torch.int32).square_().sum(1, dtype=torch.int64) for part in rows_NH.split(_ROWS_AT_ONCE))
    largest = [part.amax() for part in parts if len(part)]
    return int(torch.stack(largest).amax()) if largest else 0


def scores_are_exact(query_square: int, candidate_square: int) -> bool:
    """Whether a float32 holds every score of rows of these squared lengths, by Cauchy-Schwarz."""
    return query_square * candidate_square <= LARGEST_EXACT**2
