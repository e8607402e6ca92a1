"""Texts to embeddings: each distinct text once, in batches that do not depend on the number of processes.

U distinct texts, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import EVERY_ROW, PARTS, Part, Rows, Similarity
from hybatch.evaluation.encoding.cut_texts import CutTexts
from hybatch.evaluation.encoding.rate import EncodingDone
from hybatch.evaluation.task import TextsTask
from hybatch.models import Encoder, LanguageOffsets, Role
from hybatch.models.encoder import refuse_offsets
from hybatch.processes import fail_together, gather_objects, rank, world_size

# Rows sent at once when the processes exchange embeddings, and looked at: bounds the buffer beside the result itself.
_EXCHANGE_ROWS = 65536
# Tokens that a CPU encodes at once, padding included: more leave its caches, and an encoder of 12 layers x 384 loses a
# tenth of its speed with 8,000 (benchmarks/bench_encoding.py).
_CPU_TOKENS = 3072
# Texts whose tokens are held at once when only their number is wanted.
_COUNTED_AT_ONCE = 8192


class EncodedTask:
    """The embeddings that an encoder gives to a task's texts; equal texts share one row, so that they tie.

    Where the encoder has offsets, each row is moved by its language's: equal texts then share one row a language.

    Attributes:
        num_distinct: texts that were encoded.
        done: tokens and arithmetic of all of them.
    """

    similarity: Similarity = "cosine"

    def __init__(
        self,
        encoder: Encoder,
        task: TextsTask,
        *,
        batch_size: int,
        progress: bool,
        model: str = "",
        cut: CutTexts | None = None,
    ) -> None:
        self.done = EncodingDone()
        self._rows: dict[Part, np.ndarray] = {}
        self._places: dict[tuple[Part, str], np.ndarray] = {}
        distinct = {part: _distinct(chain.from_iterable(getattr(task, part).values())) for part in PARTS}
        for part in PARTS:
            encoder.refuse_tokenless(distinct[part], task.roles[part])
        for part in PARTS:
            texts: dict[str, list[str]] = getattr(task, part)
            place = {text: index for index, text in enumerate(distinct[part])}
            for language, rows in texts.items():
                self._places[part, language] = np.array([place[text] for text in rows], dtype=np.int64)
            self._rows[part] = encode_distinct(
                encoder,
                distinct[part],
                task.roles[part],
                batch_size=batch_size,
                progress=progress,
                model=model,
                cut=cut,
                done=self.done,
            )
        self.num_distinct = sum(map(len, self._rows.values()))
        if encoder.offsets is not None:
            for part in PARTS:
                self._move(part, task, encoder.offsets)

    def _move(self, part: Part, task: TextsTask, offsets: LanguageOffsets) -> None:
        """Put a row for each text and language in the place of one for each text."""
        moved, start = [self._rows[part][:0]], 0
        for language in getattr(task, part):
            used, place = np.unique(self._places[part, language], return_inverse=True)
            rows_UH = self._rows[part][used]
            moved.append(offsets.moved(rows_UH, task.language_of(part, language), task.roles[part]))
            self._places[part, language] = start + place
            start += len(used)
        self._rows[part] = np.concatenate(moved)

    def embeddings(self, part: Part, language: str, rows: Rows = EVERY_ROW) -> np.ndarray:
        """float32 [rows, H], of unit length."""
        return self._rows[part][self._places[part, language][rows]]


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each distinct text once, in an order that nothing but the texts decides."""
    return sorted(set(texts))


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str],
    role: Role,
    *,
    batch_size: int,
    progress: bool = True,
    model: str = "",
    cut: CutTexts | None = None,
) -> np.ndarray:
    """Encode texts in any order, each distinct one once; collective under torch.distributed.

    Args:
        model: what messages call the encoder.
        cut: counts, where given, the distinct texts that the encoder does not read to their end.

    Returns:
        float32 [len(texts), H] on the CPU of every process; equal texts have equal rows.

    Raises:
        UserError: a text leaves nothing to encode, the encoder gives an embedding that is not finite, or it has
            offsets, which go by the language of a text.
    """
    refuse_offsets(encoder, model or "the model")
    distinct = _distinct(texts)
    encoder.refuse_tokenless(distinct, role)
    place = {text: row for row, text in enumerate(distinct)}
    rows_UH = encode_distinct(encoder, distinct, role, batch_size=batch_size, progress=progress, model=model, cut=cut)
    return rows_UH[[place[text] for text in texts]]


def encode_distinct(
    encoder: Encoder,
    texts: Sequence[str],
    role: Role,
    *,
    batch_size: int,
    progress: bool = True,
    model: str = "",
    cut: CutTexts | None = None,
    done: EncodingDone | None = None,
) -> np.ndarray:
    """Encode distinct texts, in an order that does not depend on the processes; collective under torch.distributed.

    The texts are sorted by their number of tokens and cut into batches first, the batches then dealt to the processes,
    so every text shares its batch, and hence its padding and rounding, with the same texts for any number of processes.
    All processes run the encoder equally often, as sharded models need. At most one batch of tokens is held at a time.

    Args:
        model, cut: as of `encode_texts`.
        done: counts, where given, tokens and arithmetic of all texts.

    Returns:
        float32 [U, H] on the CPU of every process.

    Raises:
        UserError: the encoder gives an embedding that is not finite.
    """
    rows_UH = np.zeros((len(texts), encoder.embedding_size), dtype=np.float32)
    lengths_U = _lengths(encoder, texts, role)
    # The longest first: what a GPU has no memory for shows at once.
    order_U = np.argsort(-lengths_U, kind="stable")
    batches = _cut(order_U, lengths_U, batch_size, next(encoder.parameters()).device)
    was_training = encoder.training
    encoder.eval()
    bar = tqdm(total=len(texts), desc=f"encoding {role}", unit="text", disable=not progress or rank() > 0, leave=False)

    def encode(batch: np.ndarray, is_idle: bool) -> np.ndarray:
        return encode_batch(encoder, [texts[i] for i in batch], role, None if is_idle else cut)

    def name(row: int) -> str:
        return f"the {role} {texts[row][:80]!r}"

    device = next(encoder.parameters()).device
    try:
        with torch.inference_mode(), bar:
            encode_shares(rows_UH, batches, encode, name=name, model=model, device=device, progress=bar.update)
    finally:
        encoder.train(was_training)
    if done is not None:
        done.add(encoder, [lengths_U[batch] for batch in batches])
    return rows_UH


def encode_shares(
    rows_UH: np.ndarray,
    batches: Sequence[np.ndarray],
    encode: Callable[[np.ndarray, bool], np.ndarray],
    *,
    name: Callable[[int], str],
    model: str,
    device: torch.device,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Fill in the rows of all batches, each process encoding a share of the batches; collective.

    An encoder that gives embeddings that are not finite does so for most texts, and for the longest if for any: the
    first batches are looked at before the others are encoded.

    Args:
        rows_UH: float32; written in place, alike on every process.
        batches: of row numbers.
        encode: gives the rows of a batch; told whether it is called only because all processes run the encoder equally
            often, on a batch that is another's.
        name: what a message calls the text of a row.
        model: what it calls the encoder.
        device: that rows are sent from.
        progress: told how many rows were encoded by all processes together.

    Raises:
        UserError: on every process: an embedding is not finite; names model and text.
    """
    for first in range(0, len(batches), world_size()):
        number = first + rank()
        is_idle = number >= len(batches)
        batch = batches[0 if is_idle else number]
        rows_UH[batch] = encode(batch, is_idle)
        if first == 0:
            fail_together(_not_finite(rows_UH, batch, name, model))
        if progress is not None:
            progress(sum(map(len, batches[first : first + world_size()])))
    if world_size() > 1:
        _exchange(rows_UH, batches, device)
    for start in range(0, len(rows_UH), _EXCHANGE_ROWS):
        check_finite(rows_UH, name, model, np.arange(start, min(start + _EXCHANGE_ROWS, len(rows_UH))))


def encode_batch(encoder: Encoder, texts: Sequence[str], role: Role, cut: CutTexts | None = None) -> np.ndarray:
    """float32 [texts, H] on the CPU, encoded at once; under the caller's autograd and training modes."""
    device = next(encoder.parameters()).device
    tokens = encoder.tokenize(list(texts), role)
    if cut is not None:
        cut.add(encoder, tokens, role)
    features = {name: tensor.to(device) for name, tensor in tokens.items()}
    dtype = encoder.autocast_dtype
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        return encoder(features).float().cpu().numpy()


def _lengths(encoder: Encoder, texts: Sequence[str], role: Role) -> np.ndarray:
    """int64 [U]: tokens of each text, each process counting a share; collective under torch.distributed."""
    counts = np.zeros(len(texts), dtype=np.int64)
    mine = range(rank(), len(texts), world_size())
    for start in range(0, len(mine), _COUNTED_AT_ONCE):
        slab = mine[start : start + _COUNTED_AT_ONCE]
        counts[slab] = encoder.lengths([texts[i] for i in slab], role)
    for source, share in enumerate(gather_objects(counts[mine])):
        counts[source :: world_size()] = share
    return counts


def _cut(order_U: np.ndarray, lengths_U: np.ndarray, batch_size: int, device: torch.device) -> list[np.ndarray]:
    """Batches of texts in order, the longest first: at most `batch_size`, and on a CPU as many as its caches hold."""
    batches, start = [], 0
    while start < len(order_U):
        size = batch_size
        if device.type == "cpu":
            size = min(size, max(1, _CPU_TOKENS // int(lengths_U[order_U[start]])))
        batches.append(order_U[start : start + size])
        start += size
    return batches


def _exchange(rows_UH: np.ndarray, batches: Sequence[np.ndarray], device: torch.device) -> None:
    """Fill in the rows that other processes encoded, in place."""
    for source in range(world_size()):
        theirs = np.concatenate([np.empty(0, dtype=np.int64), *batches[source :: world_size()]])
        for start in range(0, len(theirs), _EXCHANGE_ROWS):
            slab = theirs[start : start + _EXCHANGE_ROWS]
            buffer = torch.from_numpy(rows_UH[slab]).to(device)
            dist.broadcast(buffer, src=source)
            rows_UH[slab] = buffer.cpu().numpy()


def check_finite(
    rows_NH: np.ndarray, name: Callable[[int], str], model: str = "", places: np.ndarray | None = None
) -> None:
    """Refuse embeddings that are not finite.

    Args:
        name: what a message calls the text of a row.
        model: what it calls the encoder.
        places: of the rows to look at; None for all.

    Raises:
        UserError: names model and text.
    """
    problem = _not_finite(rows_NH, np.arange(len(rows_NH)) if places is None else places, name, model)
    if problem is not None:
        raise UserError(problem)


def _not_finite(rows_NH: np.ndarray, places: np.ndarray, name: Callable[[int], str], model: str) -> str | None:
    bad = places[~np.isfinite(rows_NH[places]).all(axis=1)]
    if len(bad) == 0:
        return None
    return f"{model or 'the model'} gives {name(int(bad[0]))} an embedding that is not finite in {rows_NH.dtype}"
