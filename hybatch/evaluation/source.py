"""Where a task's embeddings come from: a model, or a folder of ready ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.embeddings import Similarity, StoredEmbeddings, TaskEmbeddings, save_embeddings
from hybatch.evaluation.encoding import EncodedTask
from hybatch.evaluation.task import ScoringOptions, TextsTask
from hybatch.models import Encoder
from hybatch.processes import rank


@dataclass(kw_only=True)
class Source:
    """What is measured; nothing is read before it is asked for."""

    model: str | None = None
    """Folder, hub id or short name of an encoder; exactly one of this and `ready` is given."""
    ready: Path | None = None
    """Folder of ready embeddings."""
    similarity: Similarity | None = None
    """Of ready embeddings."""
    save: Path | None = None
    """Folder for the embeddings of a task that a model encodes."""
    timings: dict[str, Any] = field(default_factory=dict)
    """Filled while it works: for timings.json."""

    @property
    def name(self) -> str:
        """What results call it."""
        return str(self.model or self.ready)

    def encoder(self, options: ScoringOptions) -> Encoder:
        """The model on its device.

        Raises:
            UserError: it cannot be loaded.
        """
        assert self.model is not None
        started = time.perf_counter()
        encoder = Encoder.load(self.model).to(options.device)
        self.timings["loading_seconds"] = time.perf_counter() - started
        return encoder

    def embeddings_of(self, task: TextsTask, options: ScoringOptions) -> TaskEmbeddings:
        """Encode the texts of a task, or read their embeddings; collective under torch.distributed.

        Raises:
            UserError: the model or the files cannot be used, or the embeddings not be saved.
        """
        started = time.perf_counter()
        if self.ready is not None:
            stored = StoredEmbeddings(self.ready, task, self.similarity)
            self.timings["loading_seconds"] = time.perf_counter() - started
            return stored
        encoder = self.encoder(options)
        loaded = time.perf_counter()
        encoded = EncodedTask(encoder, task, batch_size=options.batch_size, progress=options.progress)
        seconds = time.perf_counter() - loaded
        self.timings |= {
            "encoding_seconds": seconds,
            "distinct_texts": encoded.num_distinct,
            "distinct_texts_per_second": encoded.num_distinct / seconds,
        }
        if self.save is not None and rank() == 0:
            self._save(encoded, task)
        return encoded

    def _save(self, embeddings: TaskEmbeddings, task: TextsTask) -> None:
        assert self.save is not None
        try:
            save_embeddings(embeddings, task, self.save)
        except OSError as error:
            raise UserError(f"--save-embeddings {self.save}: cannot be written ({error.strerror})") from error
