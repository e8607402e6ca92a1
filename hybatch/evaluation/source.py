"""Where a task's embeddings come from: a model, or a folder of ready ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hybatch.errors import UserError
from hybatch.evaluation.debiased_embeddings import DebiasedEmbeddings, check_width, read_removal
from hybatch.evaluation.embeddings import (
    Similarity,
    StoredEmbeddings,
    TaskEmbeddings,
    refuse_wider,
    save_embeddings,
)
from hybatch.evaluation.encoding.cut_texts import CutTexts
from hybatch.evaluation.encoding.encode import EncodedTask
from hybatch.evaluation.encoding.precision import autocast_dtype
from hybatch.evaluation.removal import seen_by_removal
from hybatch.evaluation.task import ScoringOptions, TextsTask
from hybatch.models import Encoder, Role
from hybatch.models.tokenization import check_room
from hybatch.processes import rank, world_size


@dataclass(kw_only=True)
class Source:
    """What is measured; nothing is read before it is asked for."""

    model: str | None = None
    """Folder, hub id or short name of an encoder; exactly one of this and `ready` is given."""
    ready: Path | None = None
    """Folder of ready embeddings."""
    similarity: Similarity | None = None
    """Of ready embeddings."""
    removal: Path | None = None
    """Folder of a debiased encoder: ready embeddings are moved as it moves its own."""
    save: Path | None = None
    """Folder for the embeddings of a task that a model encodes."""
    prefixes: Mapping[Role, str] = field(default_factory=dict)
    """Put before the texts of a role in the place of the model's own prefix."""
    prompt: str | None = None
    """The name of the prompt that the prefixes are; None where they were given as texts."""
    cut: CutTexts = field(default_factory=CutTexts)
    """Counts the texts that the model does not read to their end."""
    debias: dict[str, Any] = field(default_factory=dict)
    """Filled while it works: how the model's language bias was taken out after training, for results.json."""
    timings: dict[str, Any] = field(default_factory=dict)
    """Filled while it works: for timings.json."""

    @property
    def name(self) -> str:
        """What results call it."""
        return str(self.model or self.ready)

    def encoder(self, options: ScoringOptions, *, languages_known: bool = False) -> Encoder:
        """The model on its device.

        Args:
            languages_known: see `Encoder.load`.

        Raises:
            UserError: it cannot be loaded, a prefix leaves no room for a text, it was debiased with other prefixes, or
                the device has no use for the precision.
        """
        assert self.model is not None
        started = time.perf_counter()
        encoder = Encoder.load(self.model, languages_known=languages_known).to(options.device)
        self.debias = {} if encoder.debiased is None else dict(encoder.debiased.record)
        if self.prefixes:
            self._refuse_other_prefixes(encoder)
            encoder.config = replace(
                encoder.config,
                query_prefix=self.prefixes.get("query", encoder.config.query_prefix),
                passage_prefix=self.prefixes.get("passage", encoder.config.passage_prefix),
            )
            self._check_room(encoder)
        encoder.autocast_dtype = autocast_dtype(options.precision, torch.device(options.device))
        if options.compile:
            encoder.pad("--compile, which would compile anew for texts of other lengths")
            encoder.backbone.compile(dynamic=True)
        self.timings["loading_seconds"] = time.perf_counter() - started
        return encoder

    def embeddings_of(self, task: TextsTask, options: ScoringOptions) -> TaskEmbeddings:
        """Encode the texts of a task, or read their embeddings; collective under torch.distributed.

        Raises:
            UserError: the model or the files cannot be used, have fewer dimensions than are asked for, or the
                embeddings cannot be saved.
        """
        started = time.perf_counter()
        if self.ready is not None:
            ready = self._ready(self.ready, task, options)
            self.timings["loading_seconds"] = time.perf_counter() - started
            return ready
        encoder = self.encoder(options, languages_known=True)
        refuse_wider(options.dimensions, encoder.embedding_size, self.name)
        if encoder.debiased is not None:
            self.debias |= seen_by_removal(encoder.debiased, encoder.offsets, task)
        loaded = time.perf_counter()
        encoded = EncodedTask(
            encoder,
            task,
            batch_size=options.batch_size,
            progress=options.progress,
            model=self.name,
            cut=self.cut,
        )
        seconds = time.perf_counter() - loaded
        self.timings |= {
            "encoding_seconds": seconds,
            "distinct_texts": encoded.num_distinct,
            "distinct_texts_per_second": encoded.num_distinct / seconds,
            **encoded.done.rates(encoder, seconds * world_size()),
        }
        if self.save is not None and rank() == 0:
            self._save(encoded, task)
        return encoded

    def _ready(self, folder: Path, task: TextsTask, options: ScoringOptions) -> TaskEmbeddings:
        stored = StoredEmbeddings(folder, task, self.similarity)
        refuse_wider(options.dimensions, stored.width, self.name)
        if self.removal is None:
            return stored
        layout = read_removal(self.removal)
        assert layout.debiased is not None
        check_width(stored, layout, self.removal)
        self.debias = layout.debiased.record | seen_by_removal(layout.debiased, layout.offsets, task)
        return DebiasedEmbeddings(stored, task, layout)

    def _refuse_other_prefixes(self, encoder: Encoder) -> None:
        if encoder.debiased is not None:
            raise UserError(
                f"{self._prefix_options()[0]}: {self.name} was debiased (hybatch debias) with the prefixes of "
                "its own; leave the option out"
            )

    def _check_room(self, encoder: Encoder) -> None:
        try:
            check_room(encoder.tokenizer, encoder.config)
        except UserError as error:
            raise UserError(f"{', '.join(self._prefix_options())}: {error}") from error

    def _prefix_options(self) -> list[str]:
        return ["--prompt"] if self.prompt is not None else [f"--{role}-prefix" for role in self.prefixes]

    def _save(self, embeddings: TaskEmbeddings, task: TextsTask) -> None:
        assert self.save is not None
        try:
            save_embeddings(embeddings, task, self.save)
        except OSError as error:
            raise UserError(f"--save-embeddings {self.save}: cannot be written ({error.strerror or error})") from error
