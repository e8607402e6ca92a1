"""What to train on, in which order: the options of sampling and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from hybatch.errors import UserError

BatchKind = Literal["x-x-mono", "x-x", "x-y", "en-en"]
SamplingKind = Literal["x-x-mono", "x-x", "x-y", "en-en", "hybrid", "sequential"]
Shape = Literal["linear", "cosine"]


@dataclass(kw_only=True)
class AlphaSchedule:
    """A share of x-x-mono batches that changes over the run, from `start` at the first step to `end` at the last."""

    start: float
    """Probability of an x-x-mono batch at the first step, in [0, 1]."""

    end: float
    """Probability of an x-x-mono batch at the last step, in [0, 1]."""

    shape: Shape = "linear"
    """`linear`, or `cosine`: half a cosine wave, flat at both ends."""

    def __post_init__(self) -> None:
        _require_share("sampling.alpha.start", self.start)
        _require_share("sampling.alpha.end", self.end)
        _require_choice("sampling.alpha.shape", self.shape, get_args(Shape))


@dataclass(kw_only=True)
class SamplingConfig:
    """Which global batches a run trains on."""

    kind: SamplingKind = "hybrid"
    """What the batches are made of: `x-x-mono` (one language for the whole batch), `x-x` (each example in a language
    of its own, question and passage alike), `x-y` (question and passage of each example in two different languages),
    `en-en` (English), `hybrid` (x-x-mono with probability alpha, else x-y) or `sequential` (first x-x-mono, then
    x-y)."""

    batch_size: int = 100
    """Examples per optimiser step over all processes together; their number must divide it."""

    alpha: float | AlphaSchedule = 0.5
    """Hybrid: the probability that a batch is x-x-mono, in [0, 1]; or {start, end, shape} to change it over the run."""

    share: float = 0.5
    """Sequential: the share of the steps, from the first on, that are x-x-mono, in [0, 1]; the others are x-y."""

    dataset_exponent: float = 1.0
    """A data set is drawn with probability proportional to its number of usable ids to this power: 1 by size, 0 all
    alike."""

    language_exponent: float = 0.0
    """The language of an x-x-mono batch is drawn with probability proportional to the data set's number of usable ids
    in it to this power: 0 all alike, 1 by size."""

    languages: list[str] | None = None
    """Train on these languages only; by default on all that the corpora have."""

    exclude_languages: list[str] = field(default_factory=list)
    """Languages to leave out of training."""

    def __post_init__(self) -> None:
        _require_choice("sampling.kind", self.kind, get_args(SamplingKind))
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UserError(f"sampling.batch_size is {self.batch_size!r}; give a whole number of at least 1")
        if not isinstance(self.alpha, AlphaSchedule):
            _require_share("sampling.alpha", self.alpha)
        _require_share("sampling.share", self.share)
        _require_exponent("sampling.dataset_exponent", self.dataset_exponent)
        _require_exponent("sampling.language_exponent", self.language_exponent)
        for option in ("languages", "exclude_languages"):
            codes = getattr(self, option)
            if isinstance(codes, str):
                raise UserError(f"sampling.{option} is the text {codes!r}; give a list of language codes")
        if self.languages is not None and not self.languages:
            raise UserError("sampling.languages is an empty list; name languages, or leave it out to train on all")


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


def _require_number(option: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{option} is {value!r}; give a number")
    return float(value)


def _require_share(option: str, value: object) -> None:
    if not 0 <= _require_number(option, value) <= 1:
        raise UserError(f"{option} is {value!r}; give a number between 0 and 1")


def _require_exponent(option: str, value: object) -> None:
    if _require_number(option, value) < 0:
        raise UserError(f"{option} is {value!r}; give a number of at least 0")


def _require_choice(option: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{option} is {value!r}; choose one of {', '.join(choices)}")
