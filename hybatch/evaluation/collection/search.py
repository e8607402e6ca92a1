"""The best passages of each query, by the project's own exact search or by an index of faiss.

Q queries, H embedding width, K passages retrieved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hybatch.errors import UserError
from hybatch.evaluation.collection.passages import Passages
from hybatch.evaluation.collection.shards import EncodedPassages
from hybatch.evaluation.collection.topk import TopK
from hybatch.evaluation.processes import fail_together, gather_objects, rank

BLOCK_ROWS = 8192
# Rows that an inverted file is trained on: faiss asks for 39 to 256 a list, and takes no good from more.
_TRAINING_ROWS_PER_LIST = 64
_PROBES = 64
_LINKS = 32
_SEEN = 256

Found = tuple[np.ndarray, np.ndarray]
"""(scores [Q, K] float32, passages [Q, K] int64), best first; -inf and -1 where there were fewer than K."""


def search(
    method: str, queries_QH: np.ndarray, encoded: EncodedPassages, passages: Passages, k: int, device: str
) -> Found:
    """The k best passages of each query by inner product; collective under torch.distributed.

    Args:
        method: "torch" (exact), "faiss-flat" (exact), "faiss-ivf-pq" or "faiss-hnsw" (approximate).

    Raises:
        UserError: faiss is not installed, or a shard is damaged; on every process.
    """
    if method == "torch":
        return _search_torch(queries_QH, encoded, k, device)
    found: Found | None = None
    problem = None
    try:
        if rank() == 0:
            found = _search_faiss(BUILDERS[method], queries_QH, encoded, passages, k)
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
        raise UserError("--search faiss-*: faiss is not installed; pip install 'hybatch[search]'") from error
    return faiss


def _search_faiss(
    build: Callable[[Any, EncodedPassages, Passages], Any],
    queries_QH: np.ndarray,
    encoded: EncodedPassages,
    passages: Passages,
    k: int,
) -> Found:
    index = build(import_faiss(), encoded, passages)
    for shard in passages.shards:
        index.add(encoded.shard(shard).astype(np.float32))
    scores, found = index.search(queries_QH, k)
    return np.where(found < 0, -np.inf, scores).astype(np.float32), found.astype(np.int64)


def _flat(faiss: Any, encoded: EncodedPassages, passages: Passages) -> Any:
    return faiss.IndexFlatIP(encoded.width)


def _ivf_pq(faiss: Any, encoded: EncodedPassages, passages: Passages) -> Any:
    """An inverted file of 4 sqrt(D) lists, with residuals quantised to a byte for every 4 dimensions."""
    lists = max(1, min(round(4 * len(passages) ** 0.5), len(passages) // _TRAINING_ROWS_PER_LIST))
    codes = max(m for m in range(1, max(1, encoded.width // 4) + 1) if encoded.width % m == 0)
    bits = min(8, max(1, int(np.log2(max(2, len(passages) // 4)))))
    quantizer = faiss.IndexFlatIP(encoded.width)
    index = faiss.IndexIVFPQ(quantizer, encoded.width, lists, codes, bits, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(_PROBES, lists)
    wanted = min(len(passages), max(lists * _TRAINING_ROWS_PER_LIST, 256 << bits))
    index.train(encoded.rows(np.arange(wanted, dtype=np.int64) * len(passages) // wanted))
    return index


def _hnsw(faiss: Any, encoded: EncodedPassages, passages: Passages) -> Any:
    index = faiss.IndexHNSWFlat(encoded.width, _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _SEEN
    index.hnsw.efSearch = _SEEN
    return index


BUILDERS: dict[str, Callable[[Any, EncodedPassages, Passages], Any]] = {
    "faiss-flat": _flat,
    "faiss-ivf-pq": _ivf_pq,
    "faiss-hnsw": _hnsw,
}
METHODS = ("torch", *BUILDERS)
