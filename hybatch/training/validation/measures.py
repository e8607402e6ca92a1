"""Measure the encoder during a run: loss on fixed batches, or mAP in every language setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from hybatch.corpus import CorpusConfig, ParallelCorpus
from hybatch.errors import UserError
from hybatch.evaluation import evaluate_encoder, parallel_task
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.losses import Loss
from hybatch.models import Encoder
from hybatch.processes import rank, sum_over_processes, world_size
from hybatch.sampling import BatchSampler, NoCellError, SamplingConfig
from hybatch.sampling.kinds import CROSS_LINGUAL, MONOLINGUAL
from hybatch.training.config import RunConfig
from hybatch.training.prompts import prompted
from hybatch.training.step.batches import BatchLoader, LocalBatch, Tokenize, equally_many_chunks
from hybatch.training.step.caching import loss_of_embeddings
from hybatch.training.step.chunks import Cutting
from hybatch.training.strategy import Strategy

# The validation batches are the same for every seed of training, so that runs can be compared.
_SEED = 20240819
_DEFAULT_KINDS = (MONOLINGUAL, CROSS_LINGUAL)


class Validation(Protocol):
    """Something to measure. Collective: all processes measure together and get the same figures."""

    larger_is_better: bool
    every_steps: int
    left_out: list[str]
    """Lines on what cannot be measured on these data."""

    def measure(self) -> dict[str, float]:
        """Named figures; "selection" is the one that decides which encoder is best."""


class LossValidation:
    """Mean loss over one fixed set of batches of each of validation.kinds, made of the held-out corpora.

    The batches depend on the corpora and the validation options only, and carry no translations: an alignment term is
    no part of what is measured. Kinds that the corpora cannot fill (x-y of English data) are left out and listed in
    `left_out`.
    """

    larger_is_better = False

    def __init__(
        self,
        config: RunConfig,
        corpora: Sequence[ParallelCorpus],
        strategy: Strategy,
        loss: Loss,
        tokenize: Tokenize,
        device: torch.device,
        *,
        cutting: Cutting,
        tokenize_of: Mapping[int, Tokenize] | None = None,
    ) -> None:
        self.every_steps = config.validation.every_steps
        self._strategy = strategy
        self._loss = loss
        self._device = device
        self._batches: list[LocalBatch] = []
        samplers, self.left_out = validation_samplers(config, corpora)
        for sampler in samplers:
            loader = BatchLoader(
                sampler=sampler,
                tokenize=tokenize,
                tokenize_of=tokenize_of or {},
                rank=rank(),
                world_size=world_size(),
                cutting=cutting,
                positives=config.loss.most_positives,
            )
            self._batches += [loader.load(step) for step in range(config.validation.batches)]
        if cutting.equal_chunks and cutting.chunk_tokens is not None:
            self._batches = [equally_many_chunks(local) for local in self._batches]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        encoder = self._strategy.encoder
        was_training = encoder.training
        encoder.eval()
        losses: dict[str, list[torch.Tensor]] = defaultdict(list)
        for batch in self._batches:
            local = batch.to(self._device)
            embeddings = torch.cat([self._strategy.encode_without_graph([chunk]) for chunk in local.chunks])
            losses[f"loss/{batch.batch.kind}"].append(loss_of_embeddings(self._loss, local, embeddings).loss)
        encoder.train(was_training)
        sums = torch.stack([torch.stack(values).mean() for values in losses.values()])
        means = (sum_over_processes(sums) / world_size()).tolist()
        figures = dict(zip(losses, means, strict=True))
        return {"selection": sum(means) / len(means), **figures}


def validation_samplers(config: RunConfig, corpora: Sequence[ParallelCorpus]) -> tuple[list[BatchSampler], list[str]]:
    """The fixed batches of each kind that the corpora can fill, and a line on each kind that they cannot.

    Raises:
        UserError: no kind can be filled.
    """
    validation = config.validation
    samplers, left_out = [], []
    for kind in validation.kinds or _DEFAULT_KINDS:
        sampling = SamplingConfig(
            kind=kind, batch_size=validation.batch_size or config.sampling.batch_size, languages=validation.languages
        )
        try:
            samplers.append(BatchSampler(corpora, sampling, seed=_SEED, total_steps=validation.batches, progress=False))
        except NoCellError as error:
            left_out.append(f"validation has no {kind} batches: {'; '.join(map(str, error.excluded))}")
    if not samplers:
        size = (
            f"sampling.batch_size {config.sampling.batch_size} (validation.batch_size is not given)"
            if validation.batch_size is None
            else f"validation.batch_size {validation.batch_size}"
        )
        raise UserError(
            f"validation.corpora can fill no batch of {size}:\n  "
            + "\n  ".join(left_out)
            + "\nset validation.batch_size lower, name other validation.kinds, or add held-out data or languages"
        )
    return samplers, left_out


def check_languages(config: RunConfig, corpora: Sequence[ParallelCorpus]) -> None:
    """Check validation.languages against the held-out corpora.

    Raises:
        UserError: no corpus has one of them, or mAP is asked for and a corpus has none of them.
    """
    existing = {code for corpus in corpora for code in corpus.languages}
    if unknown := sorted(set(config.validation.languages or ()) - existing):
        raise UserError(
            f"validation.languages names {', '.join(unknown)}, which no corpus of validation.corpora has; "
            f"there are {', '.join(sorted(existing))}"
        )
    for corpus in corpora:
        if config.validation.metric == "map" and not measured_languages(config, corpus):
            raise UserError(
                f"validation.languages has none of the languages of {corpus.name} ({', '.join(corpus.languages)}): "
                "add one, or take the corpus out of validation.corpora"
            )


def measured_languages(config: RunConfig, corpus: ParallelCorpus) -> list[str]:
    """Those of a corpus's languages that are measured."""
    wanted = config.validation.languages
    return [code for code in corpus.languages if wanted is None or code in wanted]


class MapValidation:
    """mAP and rank distance in every language setting, averaged over the held-out corpora."""

    larger_is_better = True
    left_out: list[str] = []  # noqa: RUF012 (read only)

    def __init__(self, config: RunConfig, corpora: Sequence[ParallelCorpus], encoder: Encoder) -> None:
        self.every_steps = config.validation.every_steps
        self._encoder = encoder
        self._corpora = config.validation.corpora
        self._batch_size = config.validation.batch_size or 128
        self._tasks = [
            parallel_task(corpus, measured_languages(config, corpus), config.validation.examples) for corpus in corpora
        ]

    def measure(self) -> dict[str, float]:
        columns: dict[str, list[float]] = defaultdict(list)
        for task, corpus in zip(self._tasks, self._corpora, strict=True):
            results = self._results(task, corpus)
            for setting, metrics in results["summary"].items():
                for metric in ("map", "rank_distance"):
                    if metrics.get(metric) is not None:
                        columns[f"{setting}/{metric}"].append(metrics[metric])
        figures = {name: sum(values) / len(values) for name, values in columns.items()}
        maps = [value for name, value in figures.items() if name.endswith("/map")]
        return {"selection": sum(maps) / len(maps), **figures}

    def _results(self, task: RetrievalTask, corpus: CorpusConfig) -> dict[str, Any]:
        """Of one corpus, encoded with the prompts that it has."""
        own = self._encoder.config
        self._encoder.config = prompted(own, corpus)
        try:
            return evaluate_encoder(self._encoder, task, batch_size=self._batch_size, progress=False)
        finally:
            self._encoder.config = own


def build_validation(
    config: RunConfig,
    corpora: Sequence[ParallelCorpus],
    strategy: Strategy,
    loss: Loss,
    tokenize: Tokenize,
    device: torch.device,
    *,
    cutting: Cutting,
    tokenize_of: Mapping[int, Tokenize] | None = None,
) -> Validation | None:
    """What the configuration asks for; None without held-out data.

    Args:
        cutting: of the batches that the loss is measured on.
        tokenize_of: of corpora whose texts have prompts of their own, by their places.
    """
    if not corpora:
        return None
    if config.validation.metric == "map":
        encoder = strategy.encoder
        assert isinstance(encoder, Encoder)
        return MapValidation(config, corpora, encoder)
    return LossValidation(config, corpora, strategy, loss, tokenize, device, cutting=cutting, tokenize_of=tokenize_of)
