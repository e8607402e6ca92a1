"""What to train on, in which order: the options of sampling and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hybatch.errors import UserError
from hybatch.options import check_options, limits
from hybatch.sampling.kinds import COMPOSITIONS, CROSS_LINGUAL, KINDS, MONOLINGUAL, Composition

Shape = Literal["linear", "cosine"]
KindName = str
SamplingKind = str
if not TYPE_CHECKING:  # what the parser of configurations offers and checks
    KindName = Literal[tuple(KINDS)]
    SamplingKind = Literal[tuple(KINDS | COMPOSITIONS)]
_SUM_TOLERANCE = 1e-5
"""Shares may be rounded to six digits."""
_SHARE = limits(ge=0, le=1)
_EXPONENT = limits(ge=0, le=10)
_WEIGHT = limits(ge=0, le=1_000_000)


@dataclass(kw_only=True)
class ShareSchedule:
    """A share of the batches that changes over the run, from `start` at the first step to `end` at the last."""

    start: float = field(metadata=_SHARE)
    """Probability of such a batch at the first step, in [0, 1]."""

    end: float = field(metadata=_SHARE)
    """Probability of such a batch at the last step, in [0, 1]."""

    shape: Shape = "linear"
    """`linear`, or `cosine`: half a cosine wave, flat at both ends."""


@dataclass(kw_only=True)
class Phase:
    """A part of a sequential run."""

    kind: KindName
    """The kind of its batches."""

    share: float = field(metadata=_SHARE)
    """Its share of the steps, in [0, 1]."""


@dataclass(kw_only=True)
class SamplingConfig:
    """Which global batches a run trains on."""

    kind: SamplingKind = "hybrid"
    """What the batches are made of: all of one kind, named by the languages of question and passage (x, y: any; mono:
    one for the whole batch), or of several: hybrid, drawn batch by batch, or sequential, one after the other."""

    batch_size: int = field(default=100, metadata=limits(ge=1, le=1_000_000))
    """Examples per optimiser step over all processes together; their number must divide it."""

    alpha: float | ShareSchedule = field(default=0.5, metadata=_SHARE)
    """Hybrid: the probability that a batch is x-x-mono, in [0, 1]; or {start, end, shape} to change it over the run.
    Short for mixture: {x-x-mono: alpha, x-y: 1 - alpha}."""

    mixture: dict[KindName, float | ShareSchedule] | None = field(default=None, metadata=_SHARE)
    """Hybrid: the probability of each kind, {x-x-mono: 0.4, x-y: 0.4, x-en: 0.2}; each a number or {start, end, shape}.
    At every step they must sum to 1."""

    share: float = field(default=0.5, metadata=_SHARE)
    """Sequential: the share of the steps, from the first on, that are x-x-mono, in [0, 1]; the others are x-y. Short
    for phases: [{kind: x-x-mono, share: share}, {kind: x-y, share: 1 - share}]."""

    phases: list[Phase] | None = None
    """Sequential: the kinds in their order, [{kind: x-y, share: 0.3}, {kind: x-x-mono, share: 0.7}]; the shares of the
    steps must sum to 1."""

    dataset_exponent: float = field(default=1.0, metadata=_EXPONENT)
    """A data set is drawn with probability proportional to its number of usable ids to this power: 1 by size, 0 all
    alike."""

    language_exponent: float = field(default=0.0, metadata=_EXPONENT)
    """The language of a batch in one language is drawn with probability proportional to the data set's number of usable
    ids in it to this power: 0 all alike, 1 by size."""

    languages: list[str] | None = None
    """Train on these languages only; by default on all that the corpora have."""

    exclude_languages: list[str] = field(default_factory=list)
    """Languages to leave out of training."""

    language_weights: dict[str, float] | None = field(default=None, metadata=_WEIGHT)
    """Of batches whose examples have question and passage in one language: {zh: 2, "e*": 0.5} draws Chinese twice as
    often as it would be. Keys are codes or patterns with *, ? and [...]; of several that match the weights are
    multiplied; 0 is never drawn. In x-x-mono beside language_exponent, in x-x among the languages of an example."""

    pairs: dict[str, float] | None = field(default=None, metadata=_WEIGHT)
    """The same of examples in two languages: {en-*: 2, "*-zh": 0.5}, each QUESTION-PASSAGE, among the ordered pairs
    that an example has."""

    def __post_init__(self) -> None:
        check_options(self, "sampling")
        for composition in COMPOSITIONS.values():
            _check_option_of(self, composition)
        if self.mixture is not None:
            _check_mixture(self.mixture)
        if self.phases is not None:
            _require_sum("sampling.phases: the shares", [phase.share for phase in self.phases])
        for option in ("language_weights", "pairs"):
            if getattr(self, option) == {}:
                raise UserError(f"sampling.{option} is empty; give a weight, or leave it out to draw all alike")
        if self.languages is not None and not self.languages:
            raise UserError("sampling.languages is an empty list; name languages, or leave it out to train on all")


def shares_of(config: SamplingConfig) -> dict[str, float | ShareSchedule]:
    """The probability of each kind in a hybrid run."""
    if config.mixture is not None:
        return config.mixture
    alpha = config.alpha
    if isinstance(alpha, ShareSchedule):
        return {
            MONOLINGUAL: alpha,
            CROSS_LINGUAL: ShareSchedule(start=1 - alpha.start, end=1 - alpha.end, shape=alpha.shape),
        }
    return {MONOLINGUAL: alpha, CROSS_LINGUAL: 1 - alpha}


def phases_of(config: SamplingConfig) -> list[Phase]:
    """The parts of a sequential run, in their order."""
    if config.phases is not None:
        return config.phases
    return [Phase(kind=MONOLINGUAL, share=config.share), Phase(kind=CROSS_LINGUAL, share=1 - config.share)]


def training_languages(config: SamplingConfig, available: Iterable[str]) -> tuple[str, ...]:
    """The codes trained on, in alphabetical order: `languages` (default: all available) less `exclude_languages`.

    Raises:
        UserError: a code that no corpus has, or none is left.
    """
    existing = sorted(set(available))
    for option, codes in (("languages", config.languages or []), ("exclude_languages", config.exclude_languages)):
        unknown = sorted(set(codes) - set(existing))
        if unknown:
            raise UserError(
                f"sampling.{option} names {', '.join(unknown)}, which no corpus has; there are {', '.join(existing)}"
            )
    chosen = set(existing if config.languages is None else config.languages) - set(config.exclude_languages)
    if not chosen:
        raise UserError("sampling.exclude_languages leaves no language to train on; take some out of the list")
    return tuple(sorted(chosen))


def _check_option_of(config: SamplingConfig, composition: Composition) -> None:
    """Refuse the option of a composition where it names no kind, where another is asked for, beside its short form."""
    option, short_form = f"sampling.{composition.option}", f"sampling.{composition.short_form}"
    named = getattr(config, composition.option)
    if named is None:
        return
    if not named:
        raise UserError(f"{option} is empty; name at least one kind of batch")
    if config.kind != composition.name:
        raise UserError(
            f"{option} goes with sampling.kind {composition.name}, but that is {config.kind}; set {option} to null"
        )
    if getattr(config, composition.short_form) != getattr(SamplingConfig, composition.short_form):
        raise UserError(f"{short_form} and {option} are both given; {short_form} is its short form: give one of them")


def _check_mixture(mixture: dict[KindName, float | ShareSchedule]) -> None:
    firsts, lasts = zip(*map(_both_ends, mixture.values()), strict=True)
    for when, values in (("first", firsts), ("last", lasts)):
        _require_sum(f"sampling.mixture: the shares at the {when} step", values)
    shapes = {share.shape for share in mixture.values() if isinstance(share, ShareSchedule) and _moves(share)}
    if len(shapes) > 1:
        raise UserError(
            "sampling.mixture: shares that change along a line and along a cosine do not sum to 1 in between; "
            "give all of them one shape"
        )


def _both_ends(share: float | ShareSchedule) -> tuple[float, float]:
    return (share.start, share.end) if isinstance(share, ShareSchedule) else (share, share)


def _moves(share: ShareSchedule) -> bool:
    return share.start != share.end


def _require_sum(what: str, shares: Sequence[float]) -> None:
    total = math.fsum(shares)
    if abs(total - 1) > _SUM_TOLERANCE:
        raise UserError(f"{what} sum to {total:g}; they must sum to 1")
