"""Measure the encoder during a run: loss on fixed batches, or mAP in every language setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import torch

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.evaluation import evaluate_encoder, parallel_task
from hybatch.losses import ContrastiveLoss
from hybatch.losses.gather import rank, world_size
from hybatch.models import Encoder
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.training.batches import BatchLoader, LocalBatch, Tokenize
from hybatch.training.caching import loss_of_embeddings
from hybatch.training.config import RunConfig
from hybatch.training.processes import sum_over_processes
from hybatch.training.strategy import Strategy

# The validation batches are the same for every seed of training, so that runs can be compared.
_SEED = 20240819
_KINDS = ("x-x-mono", "x-y")


class Validation(Protocol):
    """Something to measure. Collective: all processes measure together and get the same figures."""

    larger_is_better: bool

    def measure(self) -> dict[str, float]:
        """Named figures; "selection" is the one that decides which encoder is best."""


class LossValidation:
    """Mean loss over one fixed set of x-x-mono and one of x-y batches of the held-out corpora.

    The batches depend on the corpora and the validation options only. Kinds that the corpora cannot fill (x-y of
    English data) are left out and listed in `left_out`.
    """

    larger_is_better = False

    def __init__(
        self,
        config: RunConfig,
        corpora: Sequence[ParallelCorpus],
        strategy: Strategy,
        loss: ContrastiveLoss,
        tokenize: Tokenize,
        device: torch.device,
    ) -> None:
        self._strategy = strategy
        self._loss = loss
        self._device = device
        self._batches: list[LocalBatch] = []
        self.left_out: list[str] = []
        for kind in _KINDS:
            try:
                sampler = validation_sampler(config, corpora, kind)
            except UserError as error:
                self.left_out.append(f"validation has no {kind} batches: {error}")
                continue
            loader = BatchLoader(
                sampler=sampler,
                tokenize=tokenize,
                rank=rank(),
                world_size=world_size(),
                chunk_size=config.training.chunk_size,
            )
            self._batches += [loader.load(step) for step in range(config.validation.batches)]
        if not self._batches:
            raise UserError("validation.corpora can fill no batch:\n" + "\n".join(self.left_out))

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        encoder = self._strategy.encoder
        was_training = encoder.training
        encoder.eval()
        losses: dict[str, list[torch.Tensor]] = defaultdict(list)
        for batch in self._batches:
            local = batch.to(self._device)
            embeddings = torch.cat([self._strategy.encode_without_graph([chunk]) for chunk in local.chunks])
            losses[f"loss/{batch.batch.kind}"].append(loss_of_embeddings(self._loss, local, embeddings))
        encoder.train(was_training)
        sums = torch.stack([torch.stack(values).mean() for values in losses.values()])
        means = (sum_over_processes(sums) / world_size()).tolist()
        figures = dict(zip(losses, means, strict=True))
        return {"selection": sum(means) / len(means), **figures}


def validation_sampler(config: RunConfig, corpora: Sequence[ParallelCorpus], kind: str) -> BatchSampler:
    """The fixed batches of one kind.

    Raises:
        UserError: the corpora cannot fill a batch of this kind.
    """
    validation = config.validation
    sampling = SamplingConfig(
        kind=kind,  # type: ignore[arg-type]
        batch_size=validation.batch_size or config.sampling.batch_size,
        languages=validation.languages,
    )
    return BatchSampler(corpora, sampling, seed=_SEED, total_steps=validation.batches, progress=False)


class MapValidation:
    """mAP and rank distance in every language setting, averaged over the held-out corpora."""

    larger_is_better = True

    def __init__(self, config: RunConfig, corpora: Sequence[ParallelCorpus], encoder: Encoder) -> None:
        self._encoder = encoder
        self._batch_size = config.validation.batch_size or 128
        self._tasks = [
            parallel_task(corpus, config.validation.languages, config.validation.examples) for corpus in corpora
        ]

    def measure(self) -> dict[str, float]:
        columns: dict[str, list[float]] = defaultdict(list)
        for task in self._tasks:
            results = evaluate_encoder(self._encoder, task, batch_size=self._batch_size, progress=False)
            for setting, metrics in results["summary"].items():
                for metric in ("map", "rank_distance"):
                    if metrics.get(metric) is not None:
                        columns[f"{setting}/{metric}"].append(metrics[metric])
        figures = {name: sum(values) / len(values) for name, values in columns.items()}
        maps = [value for name, value in figures.items() if name.endswith("/map")]
        return {"selection": sum(maps) / len(maps), **figures}


def build_validation(
    config: RunConfig,
    corpora: Sequence[ParallelCorpus],
    strategy: Strategy,
    loss: ContrastiveLoss,
    tokenize: Tokenize,
    device: torch.device,
) -> LossValidation | MapValidation | None:
    """What the configuration asks for; None without held-out data."""
    if not corpora:
        return None
    if config.validation.metric == "map":
        encoder = strategy.encoder
        assert isinstance(encoder, Encoder)
        return MapValidation(config, corpora, encoder)
    return LossValidation(config, corpora, strategy, loss, tokenize, device)
