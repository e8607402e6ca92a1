"""The best passages of each query, by the project's own exact search or by an index of faiss.

Q queries, H embedding width, K passages retrieved.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Protocol

import numpy as np
import torch

from hybatch.errors import UserError
from hybatch.evaluation.collection.gpus import GPU_CODE_SIZES, gpus_for, over_gpus
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.collection.shards import EncodedPassages
from hybatch.evaluation.collection.topk import TopK
from hybatch.processes import fail_together, gather_objects, rank

BLOCK_ROWS = 8192
# Rows that an inverted file is trained on: faiss asks for 39 to 256 a list, and takes no good from more.
_TRAINING_ROWS_PER_LIST = 64
_PROBES = 64
_LINKS = 32
_SEEN = 256

Found = tuple[np.ndarray, np.ndarray]
"""(scores [Q, K] float32, passages [Q, K] int64), best first; -inf and -1 where there were fewer than K."""


class Vectors(Protocol):
    """What the builders of an index read of the embeddings."""

    width: int

    def rows(self, numbers: np.ndarray, /) -> np.ndarray:
        """float32 [n, H] of the passages of these numbers, in ascending order."""


Builder = Callable[[Any, Vectors, Sized, bool], Any]
"""(the module faiss, embeddings, passages, of which only the number matters, whether it must fit GPUs) to an empty
index, trained."""


def search(
    method: str,
    queries_QH: np.ndarray,
    encoded: EncodedPassages,
    passages: Passages,
    k: int,
    device: str,
    search_device: str = "auto",
) -> Found:
    """The k best passages of each query by inner product; collective under torch.distributed.

    Args:
        method: "torch" (exact), "faiss-flat" (exact), "faiss-ivf-pq" or "faiss-hnsw" (approximate).
        device: where "torch" computes.
        search_device: where faiss searches, see `hybatch.evaluation.collection.gpus.gpus_for`.

    Raises:
        UserError: faiss is not installed or has no GPU where one is insisted upon, or a shard is damaged; on every
            process.
    """
    if method == "torch":
        return _search_torch(queries_QH, encoded, k, device)
    found: Found | None = None
    problem = None
    try:
        if rank() == 0:
            found = _search_faiss(method, queries_QH, encoded, passages, k, search_device)
    except UserError as error:
        problem = str(error)
    fail_together(problem)
    return gather_objects(found)[0]


def _search_torch(queries_QH: np.ndarray, encoded: EncodedPassages, k: int, device: str) -> Found:
    best = TopK(torch.from_numpy(queries_QH).to(device), k)
    problem = None
    try:
        for first, rows in encoded.blocks(BLOCK_ROWS):
            best.add(torch.from_numpy(rows), first)
    except UserError as error:
        problem = str(error)
    fail_together(problem)
    for number, keys in enumerate(gather_objects(best.keys())):
        if number != rank():
            best.merge(keys)
    return best.result()


def import_faiss() -> Any:
    """The module faiss.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "--search faiss-*: faiss is not installed; pip install 'hybatch[search]', or 'hybatch[search-gpu]' for GPUs"
        ) from error
    return faiss


def _search_faiss(
    method: str, queries_QH: np.ndarray, encoded: EncodedPassages, passages: Passages, k: int, search_device: str
) -> Found:
    faiss = import_faiss()
    gpus = gpus_for(faiss, method, search_device)
    index = BUILDERS[method](faiss, encoded, passages, gpus > 0)
    # faiss fills a flat index that is sharded in one call or not at all, so that one is filled before it is moved; an
    # inverted file is filled where it is, since finding each vector's list is most of the work.
    moved_first = method == "faiss-ivf-pq"
    if gpus and moved_first:
        index = over_gpus(faiss, index, gpus)
    for shard in passages.shards:
        index.add(encoded.shard(shard).astype(np.float32))
    if gpus and not moved_first:
        index = over_gpus(faiss, index, gpus)
    scores, found = index.search(queries_QH, k)
    return np.where(found < 0, -np.inf, scores).astype(np.float32), found.astype(np.int64)


def _flat(faiss: Any, encoded: Vectors, passages: Sized, on_gpus: bool) -> Any:
    return faiss.IndexFlatIP(encoded.width)


def _ivf_pq(faiss: Any, encoded: Vectors, passages: Sized, on_gpus: bool) -> Any:
    """An inverted file of 4 sqrt(D) lists, with residuals quantised to a byte for every 4 dimensions.

    On GPUs the bytes are those that faiss has kernels for, at most 96, and each has all of its 8 bits.
    """
    lists = max(1, min(round(4 * len(passages) ** 0.5), len(passages) // _TRAINING_ROWS_PER_LIST))
    sizes = GPU_CODE_SIZES if on_gpus else range(1, encoded.width + 1)
    codes = max(m for m in sizes if m <= max(1, encoded.width // 4) and encoded.width % m == 0)
    bits = 8 if on_gpus else min(8, max(1, int(np.log2(max(2, len(passages) // 4)))))
    quantizer = faiss.IndexFlatIP(encoded.width)
    index = faiss.IndexIVFPQ(quantizer, encoded.width, lists, codes, bits, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(_PROBES, lists)
    wanted = min(len(passages), max(lists * _TRAINING_ROWS_PER_LIST, 256 << bits))
    index.train(encoded.rows(np.arange(wanted, dtype=np.int64) * len(passages) // wanted))
    return index


def _hnsw(faiss: Any, encoded: Vectors, passages: Sized, on_gpus: bool) -> Any:
    index = faiss.IndexHNSWFlat(encoded.width, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _SEEN
    index.hnsw.efSearch = _SEEN
    return index


BUILDERS: dict[str, Builder] = {
    "faiss-flat": _flat,
    "faiss-ivf-pq": _ivf_pq,
    "faiss-hnsw": _hnsw,
}
METHODS = ("torch", *BUILDERS)
