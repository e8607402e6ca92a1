"""The k best passages of each query over blocks of passages, without a matrix of queries by passages.

Q queries, D passages of a block, H embedding width.
"""

from __future__ import annotations

import numpy as np
import torch

from hybatch.ops.products import float32_products

_QUERIES_AT_ONCE = 1024
_NONE = torch.iinfo(torch.int64).min
_LOW = 0xFFFFFFFF


class TopK:
    """Keeps the k best passages while blocks of them come by; equal scores go to the smaller passage number.

    A score and a passage's number are packed into one integer that sorts by both, so that the result does not depend
    on the order or the size of the blocks, but for the rounding of the scores themselves.

    Args:
        queries: [Q, H] float32, on the device that computes.
        k: passages kept a query.
    """

    def __init__(self, queries: torch.Tensor, k: int) -> None:
        self._queries = queries
        self._keys_QK = torch.full((len(queries), k), _NONE, dtype=torch.int64, device=queries.device)

    def add(self, block_DH: torch.Tensor, first: int) -> None:
        """Take in the passages first, first + 1, ... whose embeddings are the rows of `block_DH`."""
        block_DH = block_DH.to(self._queries)
        for start in range(0, len(self._queries), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            with float32_products(block_DH.device):
                scores_QD = self._queries[part] @ block_DH.T
            # Once the first blocks are in, few passages of a block reach any query's k-th score: the best n of a row,
            # where no row has more than n of these, hold them all, whatever order they have among equals.
            reaching = int((scores_QD >= self._worst(part)).sum(dim=1).max()) if scores_QD.numel() else 0
            if reaching == 0:
                continue
            if reaching <= self._keys_QK.shape[1]:
                scores_QD, index_QD = scores_QD.topk(reaching, dim=1)
            else:
                index_QD = torch.arange(len(block_DH), device=block_DH.device)
            keys_QD = (_sortable(scores_QD) << 32) + (_LOW - first - index_QD)
            self._keys_QK[part] = self._best(torch.cat([self._keys_QK[part], keys_QD], dim=1))

    def keys(self) -> np.ndarray:
        """int64 [Q, k]: what `merge` takes, to join what several processes have kept."""
        return self._keys_QK.cpu().numpy()

    def merge(self, keys_QK: np.ndarray) -> None:
        """Take in what another `TopK` of the same queries has kept."""
        theirs = torch.from_numpy(keys_QK).to(self._keys_QK.device)
        self._keys_QK = self._best(torch.cat([self._keys_QK, theirs], dim=1))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(scores [Q, k] float32, passages [Q, k] int64), best first; -inf and -1 where there were fewer."""
        keys = self._keys_QK
        absent = keys == _NONE
        passages = (_LOW - (keys & _LOW)).masked_fill(absent, -1)
        scores = _score(keys >> 32).masked_fill(absent, -torch.inf)
        return scores.cpu().numpy(), passages.cpu().numpy()

    def _worst(self, part: slice) -> torch.Tensor:
        """[Q, 1]: the least score kept of each query, -inf where there is room."""
        last_Q1 = self._keys_QK[part, -1:]
        return _score(last_Q1 >> 32).masked_fill(last_Q1 == _NONE, -torch.inf)

    def _best(self, keys: torch.Tensor) -> torch.Tensor:
        return keys.topk(self._keys_QK.shape[1], dim=1).values


def _sortable(scores: torch.Tensor) -> torch.Tensor:
    """float32 to int64 in the same order: negative floats order backwards by their bits."""
    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0, its equal
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)


def _score(ordered: torch.Tensor) -> torch.Tensor:
    bits = ordered.to(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).view(torch.float32)
