"""What to train on, in which order: the options of sampling and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from hybatch.errors import UserError
from hybatch.sampling.kinds import COMPOSITIONS, CROSS_LINGUAL, KINDS, MONOLINGUAL, Composition

Shape = Literal["linear", "cosine"]
KindName = str
SamplingKind = str
if not TYPE_CHECKING:  # what the parser of configurations offers and checks
    KindName = Literal[tuple(KINDS)]
    SamplingKind = Literal[tuple(KINDS | COMPOSITIONS)]
_SUM_TOLERANCE = 1e-5
"""Shares may be rounded to six digits."""


@dataclass(kw_only=True)
class ShareSchedule:
    """A share of the batches that changes over the run, from `start` at the first step to `end` at the last."""

    start: float
    """Probability of such a batch at the first step, in [0, 1]."""

    end: float
    """Probability of such a batch at the last step, in [0, 1]."""

    shape: Shape = "linear"
    """`linear`, or `cosine`: half a cosine wave, flat at both ends."""


@dataclass(kw_only=True)
class Phase:
    """A part of a sequential run."""

    kind: KindName
    """The kind of its batches."""

    share: float
    """Its share of the steps, in [0, 1]."""

    def __post_init__(self) -> None:
        _require_choice("sampling.phases: kind", self.kind, tuple(KINDS))
        _require_share("sampling.phases: share", self.share)


@dataclass(kw_only=True)
class SamplingConfig:
    """Which global batches a run trains on."""

    kind: SamplingKind = "hybrid"
    """What the batches are made of: all of one kind, named by the languages of question and passage (x, y: any; mono:
    one for the whole batch), or of several: hybrid, drawn batch by batch, or sequential, one after the other."""

    batch_size: int = 100
    """Examples per optimiser step over all processes together; their number must divide it."""

    alpha: float | ShareSchedule = 0.5
    """Hybrid: the probability that a batch is x-x-mono, in [0, 1]; or {start, end, shape} to change it over the run.
    Short for mixture: {x-x-mono: alpha, x-y: 1 - alpha}."""

    mixture: dict[KindName, float | ShareSchedule] | None = None
    """Hybrid: the probability of each kind, {x-x-mono: 0.4, x-y: 0.4, x-en: 0.2}; each a number or {start, end, shape}.
    At every step they must sum to 1."""

    share: float = 0.5
    """Sequential: the share of the steps, from the first on, that are x-x-mono, in [0, 1]; the others are x-y. Short
    for phases: [{kind: x-x-mono, share: share}, {kind: x-y, share: 1 - share}]."""

    phases: list[Phase] | None = None
    """Sequential: the kinds in their order, [{kind: x-y, share: 0.3}, {kind: x-x-mono, share: 0.7}]; the shares of the
    steps must sum to 1."""

    dataset_exponent: float = 1.0
    """A data set is drawn with probability proportional to its number of usable ids to this power: 1 by size, 0 all
    alike."""

    language_exponent: float = 0.0
    """The language of a batch in one language is drawn with probability proportional to the data set's number of usable
    ids in it to this power: 0 all alike, 1 by size."""

    languages: list[str] | None = None
    """Train on these languages only; by default on all that the corpora have."""

    exclude_languages: list[str] = field(default_factory=list)
    """Languages to leave out of training."""

    def __post_init__(self) -> None:
        _require_choice("sampling.kind", self.kind, tuple(KINDS | COMPOSITIONS))
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UserError(f"sampling.batch_size is {self.batch_size!r}; give a whole number of at least 1")
        _require_scheduled_share("sampling.alpha", self.alpha)
        _require_share("sampling.share", self.share)
        for composition in COMPOSITIONS.values():
            _check_option_of(self, composition)
        _check_mixture(self.mixture)
        _check_phases(self.phases)
        _require_exponent("sampling.dataset_exponent", self.dataset_exponent)
        _require_exponent("sampling.language_exponent", self.language_exponent)
        for option in ("languages", "exclude_languages"):
            codes = getattr(self, option)
            if isinstance(codes, str):
                raise UserError(f"sampling.{option} is the text {codes!r}; give a list of language codes")
            if any(isinstance(code, bool) for code in codes or ()):
                raise UserError(f"sampling.{option} holds yes or no, which YAML takes for true and false: quote 'no'")
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


def check_kinds(option: str, names: Collection[str]) -> None:
    """Refuse a list of no kinds, and names that `KINDS` does not have.

    Raises:
        UserError: names the option.
    """
    if not names:
        raise UserError(f"{option} is empty; name at least one kind of batch")
    for name in names:
        _require_choice(option, name, tuple(KINDS))


def _check_option_of(config: SamplingConfig, composition: Composition) -> None:
    """Refuse the option of a composition where another is asked for, and beside its short form."""
    option, short_form = f"sampling.{composition.option}", f"sampling.{composition.short_form}"
    if getattr(config, composition.option) is None:
        return
    if config.kind != composition.name:
        raise UserError(
            f"{option} goes with sampling.kind {composition.name}, but that is {config.kind}; set {option} to null"
        )
    if getattr(config, composition.short_form) != getattr(SamplingConfig, composition.short_form):
        raise UserError(f"{short_form} and {option} are both given; {short_form} is its short form: give one of them")


def _check_mixture(mixture: dict[str, float | ShareSchedule] | None) -> None:
    if mixture is None:
        return
    check_kinds("sampling.mixture", mixture)
    for kind, share in mixture.items():
        _require_scheduled_share(f"sampling.mixture.{kind}", share)
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


def _check_phases(phases: list[Phase] | None) -> None:
    if phases is None:
        return
    check_kinds("sampling.phases", [phase.kind for phase in phases])
    _require_sum("sampling.phases: the shares", [phase.share for phase in phases])


def _require_sum(what: str, shares: Sequence[float]) -> None:
    total = math.fsum(shares)
    if abs(total - 1) > _SUM_TOLERANCE:
        raise UserError(f"{what} sum to {total:g}; they must sum to 1")


def _require_number(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{option} is {value!r}; give a number")
    return float(value)


def _require_share(option: str, value: object) -> None:
    if not 0 <= _require_number(option, value) <= 1:
        raise UserError(f"{option} is {value!r}; give a number between 0 and 1")


def _require_scheduled_share(option: str, value: object) -> None:
    if not isinstance(value, ShareSchedule):
        return _require_share(option, value)
    _require_share(f"{option}.start", value.start)
    _require_share(f"{option}.end", value.end)
    return _require_choice(f"{option}.shape", value.shape, get_args(Shape))


def _require_exponent(option: str, value: object) -> None:
    if _require_number(option, value) < 0:
        raise UserError(f"{option} is {value!r}; give a number of at least 0")


def _require_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{option} is {value!r}; choose one of {', '.join(choices)}")
