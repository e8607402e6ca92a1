"""The embeddings of a collection: one file a shard, encoded once, shared by any number of processes and later runs.

D passages, H embedding width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import PretrainedConfig

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.collection.passages import Passages, Shard
from hybatch.evaluation.embeddings import write_array
from hybatch.evaluation.encoding.cut_texts import CutTexts
from hybatch.evaluation.encoding.encode import check_finite, encode_batch
from hybatch.models import Encoder
from hybatch.models.encoder import refuse_offsets
from hybatch.paths import cache_directory
from hybatch.processes import fail_together, gather_objects, rank, world_size
from hybatch.version import __version__

MANIFEST = "manifest.json"
# Of a backbone's configuration, what no vector depends on.
_NAMES = ("_name_or_path", "transformers_version")
# Shows one tokenizer from another; a hundredfold it shows where texts are cut.
_SAMPLE = (
    "The quick brown fox jumps over 13 lazy dogs; Zwölf Boxkämpfer jagen Viktor. Съешь же ещё этих мягких булок. "
    "نص قصير بالعربية. यह एक वाक्य है। ข้อความภาษาไทย 这是一个句子。これは文です。한 문장입니다. Μία πρόταση. "
)


class EncodedPassages:
    """The embeddings of `passages`, in float16 or float32 shards that are memory-mapped.

    The folder's name is a digest of all that decides the embeddings: another model, collection or batch size has
    another folder. A shard appears whole or not at all, so an evaluation that was killed goes on after the last one.
    Collective under torch.distributed: the shards that are missing are dealt to the processes.

    Args:
        root: folder of folders of embeddings.
        dtype: "float16" or "float32".
        model: what messages call the encoder.
        cut: counts, where given, the distinct texts of each shard that the encoder does not read to their end.

    Raises:
        UserError: a shard is damaged, an embedding is not finite, the folder cannot be written, or the encoder has
            offsets, which go by the language of a text.
    """

    def __init__(
        self,
        encoder: Encoder,
        passages: Passages,
        root: Path,
        *,
        batch_size: int,
        dtype: str = "float32",
        progress: bool = True,
        model: str = "",
        cut: CutTexts | None = None,
    ) -> None:
        refuse_offsets(encoder, model or "the model")
        self._passages = passages
        self._model = model
        self._cut = cut
        self._dtype = np.dtype(dtype)
        self.width = encoder.embedding_size
        manifest = _manifest(encoder, passages, batch_size, dtype)
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]
        self.directory = root / f"{passages.name}-{digest}"
        self.num_encoded = 0
        # The first process looks before any writes, so that all share out the same shards.
        missing: list[int] = []
        with self._failing_together():
            if rank() == 0:
                self._write_manifest(manifest)
                missing = self._missing()
        missing = gather_objects(missing)[0]
        with self._failing_together():
            self._encode(encoder, missing, batch_size, progress)

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        problem = None
        try:
            yield
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{self.directory}: cannot be written ({error.strerror or error}); choose another --index"
        fail_together(problem)

    def shard(self, shard: Shard) -> np.ndarray:
        """[rows, H] of one shard, memory-mapped.

        Raises:
            UserError: the file is missing or truncated.
        """
        path = self._path(shard)
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(path, str(error)) from error
        if rows.shape != (shard.rows, self.width) or rows.dtype != self._dtype:
            raise _damaged(path, f"{rows.dtype} {list(rows.shape)}, not {self._dtype} {[shard.rows, self.width]}")
        return rows

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """float32 [n, H] of the passages of these numbers, in ascending order."""
        parts = [np.zeros((0, self.width), dtype=np.float32)]
        for shard in self._passages.shards:
            low, high = np.searchsorted(numbers, (shard.first, shard.first + shard.rows))
            if low < high:
                parts.append(self.shard(shard)[numbers[low:high] - shard.first].astype(np.float32))
        return np.concatenate(parts)

    def blocks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """(first passage, float32 [up to `rows`, H]) over the shards of this process, rank by rank in turn."""
        for shard in self._passages.shards[rank() :: world_size()]:
            mapped = self.shard(shard)
            for start in range(0, shard.rows, rows):
                yield shard.first + start, mapped[start : start + rows].astype(np.float32)

    def _path(self, shard: Shard) -> Path:
        return self.directory / f"{shard.number:06d}.npy"

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        if not (self.directory / MANIFEST).exists():
            with atomic_file(self.directory / MANIFEST) as file:
                file.write(json.dumps(manifest, indent=2, sort_keys=True) + "\n")

    def _missing(self) -> list[int]:
        missing = []
        for shard in self._passages.shards:
            if self._path(shard).exists():
                self.shard(shard)
            else:
                missing.append(shard.number)
        return missing

    def _encode(self, encoder: Encoder, missing: list[int], batch_size: int, progress: bool) -> None:
        mine = [self._passages.shards[number] for number in missing[rank() :: world_size()]]
        total = sum(shard.rows for shard in self._passages.shards)
        self.num_encoded = sum(self._passages.shards[number].rows for number in missing)
        share = sum(shard.rows for shard in mine)
        was_training = encoder.training
        encoder.eval()
        described = f"encoding {self._passages.name} ({total - self.num_encoded} of {total} there)"
        bar = tqdm(total=share, desc=described, unit="passage", disable=not progress or rank() > 0, leave=False)
        try:
            with torch.inference_mode(), bar:
                for shard in mine:
                    rows_DH = self._encode_shard(encoder, shard, batch_size, bar)
                    with atomic_file(self._path(shard), "wb") as file:
                        write_array(file, rows_DH)
        finally:
            encoder.train(was_training)

    def _encode_shard(self, encoder: Encoder, shard: Shard, batch_size: int, bar: Any) -> np.ndarray:
        """Equal texts of a shard share one row; batches are of texts of like length."""
        passages = list(self._passages.read(shard))
        texts = [passage.encoded for passage in passages]
        if len(texts) != shard.rows:
            raise UserError(f"{self._passages.name}: the files have changed since they were scanned; start again")
        distinct = sorted(set(texts))
        lengths = encoder.lengths(distinct, "passage")
        distinct = [distinct[i] for i in np.argsort(-np.array(lengths), kind="stable")]
        rows_UH = np.zeros((len(distinct), self.width), dtype=self._dtype)
        for start in range(0, len(distinct), batch_size):
            batch = distinct[start : start + batch_size]
            with np.errstate(over="ignore"):
                rows_UH[start : start + len(batch)] = encode_batch(encoder, batch, "passage", self._cut)
            bar.update(len(batch))
        bar.update(shard.rows - len(distinct))
        place = {text: row for row, text in enumerate(distinct)}
        rows_DH = rows_UH[[place[text] for text in texts]]
        check_finite(rows_DH, lambda row: f"passage {passages[row].id!r}", self._model)
        return rows_DH


def default_root() -> Path:
    """Where embeddings of collections are kept unless --index says otherwise: the cache's folder `embeddings`."""
    return cache_directory() / "embeddings"


def model_fingerprint(encoder: Encoder) -> str:
    """A digest of the weights, of what is computed with them, and of how texts become tokens."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr(encoder.config).encode())
    digest.update(_architecture(encoder).encode())
    features = encoder.tokenize([_SAMPLE, _SAMPLE * 100], "passage")
    digest.update(repr({name: rows.tolist() for name, rows in sorted(features.items())}).encode())
    return digest.hexdigest()


def _architecture(encoder: Encoder) -> str:
    """The backbone's configuration: equal weights compute something else with other heads, activations or positions."""
    config = encoder.backbone.config
    if not isinstance(config, PretrainedConfig):
        return ""
    facts = {name: value for name, value in config.to_dict().items() if name not in _NAMES}
    return json.dumps(facts, sort_keys=True, default=str)


def _manifest(encoder: Encoder, passages: Passages, batch_size: int, dtype: str) -> dict[str, Any]:
    return {
        "model": model_fingerprint(encoder),
        "collection": passages.fingerprint,
        "passages": len(passages),
        "shard_rows": passages.shards[0].rows,
        "width": encoder.embedding_size,
        "dtype": dtype,
        "batch_size": batch_size,
        "device": next(encoder.parameters()).device.type,
        **({} if encoder.autocast_dtype is None else {"precision": str(encoder.autocast_dtype)}),
        "versions": {"hybatch": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: missing or truncated ({reason}); delete it: it alone will be encoded again")
