"""What the model cards of a run's encoders say of how they were made.

Nothing here depends on where files are, on the time, on how the work was shared, or on whether the run was interrupted:
the cards of runs that compute the same are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybatch.corpus import CorpusConfig
from hybatch.corpus.formats.hub import HUB_ID
from hybatch.losses import LossConfig
from hybatch.models import EncoderConfig
from hybatch.models.card import BaseModel, Origin, base_model, versions_used
from hybatch.sampling import COMPOSITIONS, LABELS, SamplingConfig, ShareSchedule
from hybatch.sampling.config import phases_of, shares_of
from hybatch.training.config import RunConfig, TrainingConfig
from hybatch.training.flat import flatten

# Of the sections `model` and `loss`: said elsewhere in a card, or of how something is computed and not of what.
_NOT_TOLD = re.compile(
    r"backbone|pooling|head|query_prefix|passage_prefix|query_max_length|passage_max_length"
    r"|unpad|gradient_checkpointing|attn_implementation|kind|temperature|implementation|gather"
)


def run_origin(config: RunConfig, *, names: Sequence[str], languages: Sequence[str], step: int) -> Origin:
    """Of a run's encoder after a step; 0: before the first.

    Args:
        names: of the training corpora, in the order of the configuration.
        languages: that are trained on.
    """
    base = None if config.model.backbone is None else base_model(config.model.backbone)
    name = "A fresh encoder" if base is None else base.name
    kind = LABELS[config.sampling.kind]
    return Origin(
        title=f"{name} before training" if step == 0 else f"{name} after {step:,} {kind} batches",
        made=_made(config, base, kind, step),
        base=base,
        languages=languages,
        data=[(name, _what(corpus)) for name, corpus in zip(names, config.corpora, strict=True)],
        datasets=[corpus.path for corpus in config.corpora if _is_on_hub(corpus)],
        recipe=list(_recipe(config)) if step else [],
    )


def _made(config: RunConfig, base: BaseModel | None, kind: str, step: int) -> str:
    start = "weights drawn at random" if base is None else base.name
    if step == 0:
        return f"What a run of hybatch starts from, {start}: its weights are not trained on the data below."
    method = " (arXiv 2408.10536)" if config.sampling.kind in COMPOSITIONS else ""
    return (
        f"Trained from {start} with {kind} batches{method} of {config.sampling.batch_size:,} pairs of question and "
        f"passage; these are the weights after step {step:,} of {config.training.steps:,}."
    )


def _is_on_hub(corpus: CorpusConfig) -> bool:
    return re.fullmatch(HUB_ID, corpus.path) is not None and not Path(corpus.path).exists()


def _what(corpus: CorpusConfig) -> str:
    """Where it is, as far as that is no path of this machine, and what of it was read."""
    parts = [corpus.path] if _is_on_hub(corpus) else []
    if _is_on_hub(corpus):
        parts += [f"{name} {value}" for name in ("subset", "split", "revision") if (value := getattr(corpus, name))]
    if corpus.languages:
        parts.append(f"languages {' '.join(corpus.languages)}")
    if corpus.weight != 1:
        parts.append(f"weight {corpus.weight:g}")
    return ", ".join(parts) or ("hybatch's own" if corpus.path == "embedded" else "training data")


def _recipe(config: RunConfig) -> Iterator[tuple[str, str]]:
    training = config.training
    yield "batches", _batches(config.sampling)
    yield "batch size", f"{config.sampling.batch_size:,}, over all processes"
    yield "loss", ", ".join([config.loss.kind, *_temperature(config.loss), *_changed(config.loss)])
    if changed := _changed(config.model):
        yield "encoder", ", ".join(changed)
    yield "optimizer", _optimizer(training)
    yield "steps", f"{training.steps:,}, {training.warmup():,} of them warm-up"
    yield "learning rate", f"{training.learning_rate:g}, {training.schedule}"
    yield "precision", "bf16" if training.is_bf16 else "float32"
    yield "seed", str(config.seed)
    yield "made with", f"{versions_used()}; any number of processes trains on the same batches with the same loss"


def _batches(sampling: SamplingConfig) -> str:
    shares: dict[str, Any] = {}
    if sampling.kind == "hybrid":
        shares = {LABELS[kind]: share for kind, share in shares_of(sampling).items()}
    elif sampling.kind == "sequential":
        shares = {LABELS[phase.kind]: phase.share for phase in phases_of(sampling)}
    parts = [f"{kind} {_share(share)}" for kind, share in shares.items()]
    return f"{LABELS[sampling.kind]}{': ' if parts else ''}{', '.join(parts)}"


def _share(share: float | ShareSchedule) -> str:
    if isinstance(share, ShareSchedule):
        return f"{share.start:g} to {share.end:g} ({share.shape})"
    return f"{share:g}"


def _temperature(loss: LossConfig) -> list[str]:
    temperature = getattr(loss, "temperature", None)
    return [] if temperature is None else [f"temperature {temperature:g}"]


def _changed(section: LossConfig | EncoderConfig) -> list[str]:
    """The options that are not at their defaults; of a path, the last part."""
    usual = flatten(asdict(type(section)()))
    return [
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in flatten(asdict(section)).items()
        if value not in ({}, []) and usual.get(name) != value and not _NOT_TOLD.fullmatch(name)
    ]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    is_path = isinstance(value, str) and ("/" in value or "\\" in value or value.startswith("~"))
    return base_model(value).name if is_path else str(value)


def _optimizer(training: TrainingConfig) -> str:
    first, second = training.betas
    clipped = "" if training.max_grad_norm is None else f", gradient norm at most {training.max_grad_norm:g}"
    return f"AdamW, betas {first:g} and {second:g}, weight decay {training.weight_decay:g}{clipped}"
