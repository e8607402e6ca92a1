"""The configuration of a run: one section per component, from a YAML file and the command line."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError as ParseError
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.evaluation.settings.metrics import METRICS
from hybatch.losses import DEFAULT_LOSS, LOSSES, LossConfig
from hybatch.models import EncoderConfig
from hybatch.options import check_options, check_value, declared, limits
from hybatch.sampling import COMPOSITIONS, KINDS, SamplingConfig
from hybatch.sampling.config import KindName
from hybatch.training.config_file import (
    check_config_file,
    check_languages_of,
    config_files,
    files_named,
    said_last,
    with_lists_whole,
)
from hybatch.training.schedule import ScheduleShape

StrategyOption = Literal["auto", "none", "ddp", "zero1", "zero2", "zero3", "fsdp2"]

RANK_DISTANCE = "rank_distance"
TASK_FIGURES = (
    *(f"{setting}.{metric}" for setting in ("monolingual", "cross_lingual", "multilingual") for metric in METRICS),
    f"multilingual.{RANK_DISTANCE}",
)
"""The figures that validation.tasks measure."""
TaskFigure = str
if not TYPE_CHECKING:  # what the parser of configurations offers and checks
    TaskFigure = Literal[TASK_FIGURES]

LISTS_OF_SECTIONS = ("corpora", "sampling.phases", "validation.corpora", "validation.tasks")
"""The options whose values are lists of mappings."""
_EVERY = limits(ge=1, le=1_000_000_000)
_BATCH = limits(ge=1, le=1_000_000)
_SHARE = limits(ge=0, le=1)


@dataclass(kw_only=True)
class TrainingConfig:
    """The loop: optimizer, schedule, precision, checkpoints, logs."""

    steps: int = field(default=1000, metadata=limits(ge=1, le=10_000_000))
    """Optimiser steps of the whole run."""
    chunk_size: int | None = field(default=None, metadata=_BATCH)
    """Texts that a process encodes at once, by gradient caching: memory falls, every text outside of the last chunk is
    encoded twice, the gradient stays the same. None encodes a process's whole share of the batch at once."""
    chunk_tokens: int | None = field(default=None, metadata=limits(ge=1, le=100_000_000))
    """Tokens that a process encodes at once, by gradient caching, padding included; a longer text stands alone. Beside
    chunk_size both limits hold. Chunks of equal tokens take equal memory, whatever the lengths of their texts."""
    learning_rate: float = field(default=3e-5, metadata=limits(gt=0, le=1000))
    """Peak learning rate of AdamW."""
    weight_decay: float = field(default=1e-2, metadata=limits(ge=0, le=1_000_000))
    """Decoupled weight decay of matrices and embeddings; biases and norms have none."""
    betas: tuple[float, float] = field(default=(0.9, 0.999), metadata=limits(ge=0, lt=1))
    """AdamW's decay rates of the two moments."""
    epsilon: float = field(default=1e-8, metadata=limits(gt=0, le=1))
    """AdamW's epsilon."""
    schedule: ScheduleShape = "linear"
    """Learning rate after warm-up: falling to 0 along a line or half a cosine wave, or constant."""
    warmup_steps: int | None = field(default=None, metadata=limits(ge=0, le=10_000_000))
    """Steps over which the learning rate rises from 0; None: warmup_share of all steps."""
    warmup_share: float = field(default=0.1, metadata=_SHARE)
    """Share of the steps over which the learning rate rises, where warmup_steps is not given."""
    max_grad_norm: float | None = field(default=1.0, metadata=limits(gt=0, le=1_000_000_000))
    """Gradients of a greater norm, over all parameters and the whole batch, are scaled down to it; None: never."""
    mixed_precision: Literal["no", "bf16", "auto"] = "no"
    """bf16 runs the encoder under autocast; weights, optimizer and loss stay fp32. Faster on GPUs that have bf16 and on
    processors with AVX512-BF16 or AMX, slower on others: auto is bf16 where all processes have such, else no."""
    compile: bool = False
    """Run the backbone through torch.compile, with shapes that may vary: the first step takes a minute or more, later
    ones less time where the hardware waits for Python. Not with zero3 or fsdp2."""
    strategy: StrategyOption = "auto"
    """How processes share the work: auto takes what the launcher prepared; none (one process), ddp (each holds the
    whole model), zero1, zero2, zero3 (DeepSpeed) and fsdp2 stop a run that the launcher prepared for another."""
    threads: int | None = field(default=None, metadata=limits(ge=1, le=1024))
    """CPU threads per process; None leaves torch's and the launcher's choice: the run's first lines say where a
    container lets fewer run. Results repeat bitwise only for equal numbers of processes and threads."""
    checkpoint_every_steps: int | None = field(default=500, metadata=_EVERY)
    """Write a checkpoint after every so many steps; one is always written at the end."""
    checkpoint_every_minutes: float | None = field(default=None, metadata=limits(gt=0, le=1_000_000))
    """Write a checkpoint when so many minutes have passed since the last."""
    checkpoint_in_background: bool = True
    """Go on training while a checkpoint is written, where the strategy can copy its state to host memory (weights and
    both moments); the last checkpoint, and one that a signal asked for, are waited for."""
    keep_checkpoints: int = field(default=2, metadata=_EVERY)
    """Newest checkpoints to keep."""
    keep_every_steps: int | None = field(default=None, metadata=_EVERY)
    """Also keep, for good, the checkpoints of steps that are multiples of this; None: none."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What happens when the loss or the gradient norm of a step is not a finite number. Either way the update is not
    applied and the batch is named; stop ends the run, skip goes on with the next batch."""
    max_skipped_steps: int = field(default=10, metadata=_EVERY)
    """With on_nonfinite skip, end the run after so many skipped steps in a row."""
    timeout_minutes: float = field(default=30.0, metadata=limits(gt=0, le=1_000_000))
    """End all processes, with exit code 75, when one has made no progress for so long during training; longer than the
    longest step, validation or checkpoint."""
    heartbeat_seconds: float = field(default=120.0, metadata=limits(gt=0, le=1_000_000))
    """End all processes, with exit code 75, when one has given no sign of life for so long: it died, was stopped, or
    its machine is gone."""
    resume: Literal["auto", "never"] = "auto"
    """auto: go on from the newest intact checkpoint in output_dir, if there is one; never: refuse a folder that holds a
    run."""
    save_initial: bool = False
    """Save the encoder before the first step in initial/; a fresh backbone is always saved there."""
    log_every: int = field(default=10, metadata=_EVERY)
    """Write metrics to disk and trackers every so many steps; metrics.jsonl has a line for every step in any case."""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Trackers of accelerate that get the metrics: tensorboard, wandb, ..."""

    def warmup(self) -> int:
        """Steps of warm-up."""
        return self.warmup_steps if self.warmup_steps is not None else round(self.warmup_share * self.steps)

    @property
    def is_bf16(self) -> bool:
        """Whether the encoder runs in bf16.

        Raises:
            ValueError: mixed_precision is auto, and `settle_precision` has not been asked yet what it comes to.
        """
        if self.mixed_precision == "auto":
            raise ValueError("training.mixed_precision is auto: settle_precision says what it comes to here")
        return self.mixed_precision == "bf16"

    @property
    def is_cached(self) -> bool:
        """Whether the graph of only one chunk is held at a time."""
        return self.chunk_size is not None or self.chunk_tokens is not None

    def __post_init__(self) -> None:
        check_options(self, "training")
        if self.warmup() > self.steps:
            raise UserError(f"training.warmup_steps is {self.warmup_steps}: it must be between 0 and training.steps")


@dataclass(kw_only=True)
class TaskConfig:
    """A task of `hybatch evaluate`, measured during the run."""

    task: str
    """Its name, as `hybatch evaluate --list-tasks` has it: of those that are scored in every language setting."""
    languages: list[str] | None = None
    """Only these languages; by default all that the task has."""
    data_dir: str | None = None
    """Parent of the task's folder, or the corpus folder of task parallel, `$VARIABLES` and `~` expanded; by default
    HYBATCH_DATA_DIR."""
    every_steps: int | None = field(default=None, metadata=_EVERY)
    """Measure after every so many steps, and after the last; None: as validation.every_steps."""
    metric: TaskFigure = "multilingual.map"
    """The figure that decides which encoder is best where validation.metric names this task."""
    batch_size: int = field(default=128, metadata=_BATCH)
    """Texts that a process encodes at once."""

    def __post_init__(self) -> None:
        check_options(self, "validation.tasks")


@dataclass(kw_only=True)
class ValidationConfig:
    """Measuring the encoder during the run, to keep the best and to stop early."""

    corpora: list[CorpusConfig] = field(default_factory=list)
    """Held-out data sets."""
    tasks: list[TaskConfig] = field(default_factory=list)
    """Tasks of `hybatch evaluate` to measure, too; without these and held-out data there is no validation."""
    every_steps: int = field(default=500, metadata=_EVERY)
    """Validate after every so many steps, and after the last."""
    metric: Literal["loss", "map"] | str = "loss"
    """What decides which encoder is best. loss: mean of the losses over a fixed set of batches of each of `kinds`; map:
    mean of the monolingual, cross-lingual and multilingual mAP over the corpora; the name of one of `tasks`: its
    figure, and the corpora are measured by their loss."""
    kinds: list[KindName] | None = None
    """loss: kinds of batches (default: x-x-mono and x-y); runs are compared by the same."""
    patience: int | None = field(default=None, metadata=_EVERY)
    """Stop after so many validations in a row without a new best; None: never."""
    select_after_share: float = field(default=0.0, metadata=limits(ge=0, lt=1))
    """Share of the steps, from the first on, whose validations are only reported: best and patience count the later
    ones, the last in any case. With sampling.share of a sequential run, the best encoder is one of its second phase."""
    batch_size: int | None = field(default=None, metadata=_BATCH)
    """loss: examples of a batch over all processes (default: sampling.batch_size); map: texts that a process encodes at
    once (default: 128)."""
    batches: int = field(default=8, metadata=limits(ge=1, le=10_000))
    """loss: batches of each kind."""
    examples: int | None = field(default=1000, metadata=_EVERY)
    """map: examples of each corpus, evenly spaced; None: all."""
    languages: list[str] | None = None
    """Only these languages; by default all that a corpus has."""
    count_shared_texts: bool = True
    """Count, before training, the validation texts that also stand in the training corpora."""

    def __post_init__(self) -> None:
        check_options(self, "validation")
        if self.kinds is not None:
            if not self.kinds:
                raise UserError("validation.kinds is empty; name at least one kind of batch")
            if len(set(self.kinds)) < len(self.kinds):
                raise UserError(f"validation.kinds names a kind twice: {', '.join(self.kinds)}")
        if self.languages is not None and not self.languages:
            raise UserError("validation.languages is an empty list; name languages, or leave it out to measure on all")
        if any(corpus.weight != 1 for corpus in self.corpora):
            raise UserError("validation.corpora: weight is of data sets to train on; leave it out")
        names = [one.task for one in self.tasks]
        if len(set(names)) < len(names):
            raise UserError(f"validation.tasks names a task twice: {', '.join(names)}")
        if self.metric not in ("loss", "map", *names):
            raise UserError(
                f"validation.metric is {self.metric!r}: it must be one of {', '.join(('loss', 'map', *names))}, "
                "or a task of validation.tasks"
            )
        if not self.corpora and (self.metric == "map" or (self.patience is not None and self.metric not in names)):
            option = "metric map" if self.metric == "map" else "patience"
            raise UserError(f"validation.{option} needs held-out data: name some in validation.corpora")


@dataclass(kw_only=True)
class RunConfig:
    """A training run."""

    output_dir: str
    """Folder of the run: config.yaml, metrics.jsonl, tensorboard/, checkpoints/, initial/, best/, final/."""
    corpora: list[CorpusConfig]
    """Data sets to train on."""
    model: EncoderConfig
    """The encoder."""
    seed: int = field(default=0, metadata=limits(ge=0, lt=1 << 63))
    """Of batches, fresh weights and dropout."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Which batches."""
    loss: LossConfig = field(default_factory=DEFAULT_LOSS)
    """The loss; its options are those of its kind."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The loop."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Measuring during the run."""

    def __post_init__(self) -> None:
        check_options(self, "")
        if not self.corpora:
            raise UserError("corpora is empty: name at least one data set to train on")
        if self.loss.compares and self.sampling.batch_size == 1 and not self.loss.hard_negatives:
            raise UserError(
                "sampling.batch_size is 1 and loss.hard_negatives is 0: a query would have no negative, and nothing "
                "would be learnt; raise one of them"
            )

    def select_from_step(self) -> int:
        """The first step whose validation counts for the best encoder; halves are rounded up, as the phases of a
        sequential run are."""
        reported_only = math.floor(self.validation.select_after_share * self.training.steps + 0.5)
        return min(reported_only + 1, self.training.steps)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, numbers and strings, as config.yaml holds them."""
        plain = asdict(self)
        plain["training"]["betas"] = list(self.training.betas)
        return plain


def run_parser(prog: str, description: str, argv: Sequence[str]) -> ArgumentParser:
    """A parser of RunConfig's options, with `--config FILE`; later options win over earlier ones and over the file.

    Args:
        argv: what will be parsed; its `loss.kind` decides which options the section `loss` has.

    Raises:
        UserError: there is no such loss.
    """
    # The docstrings below the fields become the help of the options.
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    kinds = "; ".join(f"{entry.name}: {entry.summary}" for entry in (KINDS | COMPOSITIONS).values())
    epilog = f"What sampling.kind may be. {kinds}."
    parser = ArgumentParser(prog=prog, description=description, epilog=epilog, exit_on_error=False)
    for file in filter(None, config_files(argv)):
        check_config_file(file)
    check_languages_of(argv)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(RunConfig, as_group=False, fail_untyped=True, skip={"loss"})
    parser.add_class_arguments(_loss_config(argv), "loss", fail_untyped=True)
    return parser


def load_run_config(argv: Sequence[str] | None = None, *, prog: str = "hybatch train") -> RunConfig:
    """Read the configuration of a run from the command line and the files it names.

    Raises:
        UserError: an unknown option, a value of the wrong type or out of its range, a file that cannot be read.
    """
    argv = sys.argv[1:] if argv is None else argv
    return instantiate(run_parser(prog, "Train a multilingual retrieval encoder with hybrid batches.", argv), argv)[0]


def instantiate(parser: ArgumentParser, argv: Sequence[str]) -> tuple[RunConfig, Any]:
    """Parse with a parser that `run_parser` made; also return the namespace, for options added to it.

    Raises:
        UserError: as `load_run_config`.
    """
    try:
        namespace = parser.parse_args(with_lists_whole(argv, LISTS_OF_SECTIONS))
        _check_sections(namespace)
        # jsonargparse 4.49 renamed it.
        initialised = (getattr(parser, "instantiate", None) or parser.instantiate_classes)(namespace)
    # ValueError: no member of a union takes the value, which shows only when the classes are made.
    except (ParseError, ValueError) as error:
        refusal = _refusal(error, _loss_config(argv))
        raise UserError(f"{refusal}{_near(refusal, parser)}{files_named(argv)}") from error
    except OverflowError as error:
        raise UserError(f"a number is larger than any option can be ({error}){files_named(argv)}") from error
    fields = RunConfig.__dataclass_fields__
    return RunConfig(**{name: initialised[name] for name in fields}), initialised


def _near(refusal: str, parser: ArgumentParser) -> str:
    """The options whose names are near to the one that there is not, where that is what was refused."""
    argument = re.match(r"unrecognized arguments: --([\w.-]+)", refusal)
    key = re.match(r"Group '([\w.]+)' does not accept option '([\w.]+)'", refusal)
    if argument is None and key is None:
        return ""
    wrong = argument[1] if argument else ".".join(key.groups()) if key else ""
    near = difflib.get_close_matches(wrong, [action.dest for action in parser._actions], n=3, cutoff=0.8)
    return f"; near names: {', '.join(near)}" if near else ""


def _refusal(error: BaseException, loss: type[LossConfig]) -> str:
    """The parser's message in one line: what of a section that may be null was refused, and what it may be instead."""
    names: list[str] = []
    innermost: BaseException | None = error
    while innermost is not None:
        if isinstance(innermost, UserError):
            return str(innermost)
        named = re.match(r'Parser key "([^"]+)":', str(innermost))
        names += named.groups() if named and [*named.groups()] != names[-1:] else []
        reason, innermost = str(innermost), innermost.__cause__
    name, value = ".".join(names), reason.partition("Got value: ")[2]
    # Of a section that may be null: an option that it does not have, or what stands in its place.
    unknown = re.search(r"Option '([^']+)' is not accepted", reason)
    wrong = unknown or re.search(r"Given value: (.*)", str(error))
    if not value and wrong:
        value = wrong[1]
    section, _, option = name.partition(".")
    option_of = declared(loss, option) if section == "loss" else declared(RunConfig, name)
    if not (value and option_of):
        return str(error)
    try:
        check_value(name, {"None": None, "True": True, "False": False}.get(value, value), *option_of)
    except UserError as refused:
        has_none = f"{name} has no option" if unknown and value == unknown[1] else f"{name} is"
        return str(refused).replace(f"{name} is", has_none, 1)
    return str(error)


def _loss_config(argv: Sequence[str]) -> type[LossConfig]:
    kind = said_last(argv, "loss.kind")
    if kind is None:
        return DEFAULT_LOSS
    if not isinstance(kind, str) or kind not in LOSSES:
        raise UserError(f"loss.kind is {kind!r}: it must be one of {', '.join(LOSSES)}{files_named(argv)}")
    return LOSSES[kind]


def _check_sections(namespace: Namespace) -> None:
    """Refuse a section without options below it, which the parser lets pass."""
    for name in ("model", "sampling", "loss", "training", "validation"):
        value = namespace.get(name)
        if not isinstance(value, Namespace):
            holds = "is empty" if value is None else f"is {value!r}"
            raise UserError(f"section {name} {holds}: give it options, `{name}: {{option: value}}`, or take it out")
