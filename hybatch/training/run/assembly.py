"""Put a run together: checks, corpora, sampler, encoder, engine. What may fail for the user's doing fails here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.errors import UserError
from hybatch.evaluation import RetrievalTask
from hybatch.losses import Loss
from hybatch.models import Encoder, EncoderConfig, Role, build_encoder
from hybatch.models.card import Origin
from hybatch.models.config import check_config
from hybatch.models.flops import EncoderFlops, encoder_flops
from hybatch.models.tokenization import tokenize
from hybatch.processes import main_first, rank, run_on_main, world_size
from hybatch.sampling import KINDS, BatchSampler, left_out
from hybatch.sampling.companions.translations import without_translations
from hybatch.training.checkpoints.backbone_weights import backbone_weights
from hybatch.training.checkpoints.encoder import save_encoder
from hybatch.training.config import RunConfig
from hybatch.training.prompts import saved_prompts, tokenize_each
from hybatch.training.run.origin import run_origin
from hybatch.training.run.run_folder import RunFolder
from hybatch.training.schedule import learning_rate_factor
from hybatch.training.step.batches import BatchLoader, Tokenize
from hybatch.training.step.chunks import Cutting, cost_of_a_chunk
from hybatch.training.step.engine import StepEngine
from hybatch.training.step.guide import GuideTable, open_guide
from hybatch.training.step.optimizer import build_adamw
from hybatch.training.strategy import PreparedEngine, Strategy, build_strategy, check_strategy, prepared_engine
from hybatch.training.strategy.choose import check_engine_options
from hybatch.training.strategy.text_chunk import Features
from hybatch.training.texts import refuse_tokenless_texts, some_texts
from hybatch.training.validation.measures import Validation, build_validation, check_languages, validation_samplers
from hybatch.training.validation.overlap import count_shared_texts
from hybatch.training.validation.tasks import load_tasks, task_validations

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RunParts:
    """What the loop works with.

    Attributes:
        flops: what the arithmetic of the whole encoder depends on.
        validations: what is measured during the run.
        selecting: the one of them that decides which encoder is best.
        fingerprints: of the corpora, by their place in the configuration.
        backbone_weights: which weights the backbone has in its folder or on the hub (see `backbone_weights`).
    """

    encoder: Encoder
    flops: EncoderFlops
    sampler: BatchSampler
    loader: BatchLoader
    engine: StepEngine
    validations: list[Validation]
    selecting: Validation | None
    fingerprints: dict[str, str]
    backbone_weights: dict[str, str]


@dataclass(frozen=True)
class OpenCorpora:
    """The data sets of a run."""

    training: list[ParallelCorpus]
    validation: list[ParallelCorpus]

    def fingerprints(self) -> dict[str, str]:
        places = (("corpora", self.training), ("validation.corpora", self.validation))
        return {f"{place}.{i}": corpus.fingerprint for place, corpora in places for i, corpus in enumerate(corpora)}


def check_config_for_processes(config: RunConfig, prepared: PreparedEngine) -> None:
    """Check what needs no data: options against each other and against what the launcher prepared.

    Raises:
        UserError: names the option.
    """
    processes = prepared.processes
    strategy = check_strategy(config.training.strategy, prepared)
    if config.training.compile and strategy in ("zero3", "fsdp2"):
        raise UserError(
            f"training.compile does not go together with {strategy}, which cuts up the weights: leave it out"
        )
    if config.training.compile and config.model.unpad == "always":
        raise UserError("model.unpad is always, but training.compile needs padded texts: use auto, or do not compile")
    check_config(config.model)
    sizes = [("sampling.batch_size", config.sampling.batch_size)]
    if config.validation.corpora and config.validation.metric != "map" and config.validation.batch_size is not None:
        sizes.append(("validation.batch_size", config.validation.batch_size))
    for option, size in sizes:
        if size % processes:
            raise UserError(f"{option} is {size}, which {processes} processes do not divide: choose a multiple of them")
    share = config.sampling.batch_size // processes
    chunk_size = config.training.chunk_size
    if chunk_size is not None and chunk_size > share:
        raise UserError(
            f"training.chunk_size is {chunk_size}, more than the {share} examples that each of {processes} "
            f"process{'es' if processes > 1 else ''} has of a batch of {config.sampling.batch_size}: "
            "lower it, or leave it out to encode all at once"
        )
    check_engine_options(prepared, batch_size=config.sampling.batch_size, max_grad_norm=config.training.max_grad_norm)


def open_corpora(config: RunConfig, *, progress: bool) -> OpenCorpora:
    """Open, and index where needed, every data set; the main process first, the others find its index."""

    def open_all(configs: Sequence[CorpusConfig]) -> list[ParallelCorpus]:
        return main_first(lambda: [open_corpus(c, progress=progress and rank() == 0) for c in configs])

    corpora = OpenCorpora(open_all(config.corpora), open_all(config.validation.corpora))
    if config.loss.hard_negatives and not any(corpus.has_hard_negatives for corpus in corpora.training):
        raise UserError(
            f"loss.hard_negatives is {config.loss.hard_negatives}, but no corpus lists hard negatives: use 0"
        )
    _check_positives(config, corpora)
    return corpora


def _check_positives(config: RunConfig, corpora: OpenCorpora) -> None:
    """A guide's vectors and a teacher's scores are of passages and hard negatives, and of no positives beside them."""
    named = {"loss.guide": config.loss.guide_model is not None, "loss.teacher": config.loss.is_taught}
    listing = [corpus.name for corpus in corpora.training if corpus.has_positives]
    for option in [option for option, is_given in named.items() if is_given and listing]:
        raise UserError(
            f"{option} goes by passages and hard negatives alone, but {', '.join(listing)} lists several positives: "
            f"leave {option} out, or take `positives` out of the rows"
        )


def build_sampler(config: RunConfig, corpora: OpenCorpora, *, progress: bool) -> BatchSampler:
    """The batches of the run; the main process first, the others find what it computed."""
    return main_first(
        lambda: BatchSampler(
            corpora.training,
            config.sampling,
            seed=config.seed,
            total_steps=config.training.steps,
            progress=progress and rank() == 0,
            weights=[one.weight for one in config.corpora],
        )
    )


def assemble(config: RunConfig, folder: RunFolder, accelerator: Accelerator, say: Say) -> RunParts:
    """Build everything the loop needs, cheap checks first.

    Args:
        say: told what the user should know before the run.

    Raises:
        UserError: the data, the model or the options do not allow the run.
    """
    corpora = open_corpora(config, progress=True)
    sampler = build_sampler(config, corpora, progress=True)
    for line in [*left_out(sampler), *report_translations(config, sampler)]:
        say(line)
    for line in report_scores(config, corpora):
        say(line)
    _check_validation(config, corpora)
    tasks = load_tasks(config)
    report_shared_texts(config, corpora, say)
    guide = _open_guide(config, sampler, accelerator, say)
    encoder = build_run_encoder(config, folder, corpora, sampler.languages).to(accelerator.device)
    run_on_main(lambda: _refuse_tokenless(config, folder, corpora, encoder, sampler.languages))
    encoder.dimensions = config.loss.trained_widths
    if config.training.compile:
        encoder.pad("training.compile, which would compile anew for texts of other lengths")
    for line in [*_about_updates(encoder), *_about_padding(config, encoder)]:
        say(line)
    # Both are of the whole encoder, before a strategy shards it.
    chunk_cost, flops = cost_of_a_chunk(encoder), encoder_flops(encoder.backbone, encoder.head, encoder.unused)
    if config.training.compile:
        _compile(encoder)
    strategy = _build_strategy(config, encoder, prepared_engine(accelerator))
    loss = config.loss.build()
    engine = _build_engine(config, strategy, loss)
    cutting = Cutting(
        chunk_size=config.training.chunk_size,
        chunk_tokens=config.training.chunk_tokens,
        chunk_cost=chunk_cost,
        is_padded=encoder.padded_because is not None,
        equal_chunks=strategy.equal_chunks,
    )
    loader = _build_loader(config, sampler, encoder, cutting, guide)
    validations = _build_validations(config, corpora, tasks, encoder, strategy, loss, accelerator.device, cutting, say)
    return RunParts(
        encoder=encoder,
        flops=flops,
        sampler=sampler,
        loader=loader,
        engine=engine,
        validations=list(validations.values()),
        selecting=validations.get(config.validation.metric),
        fingerprints=corpora.fingerprints(),
        backbone_weights=run_on_main(lambda: backbone_weights(config.model)),
    )


def _build_loader(
    config: RunConfig, sampler: BatchSampler, encoder: Encoder, cutting: Cutting, guide: GuideTable | None
) -> BatchLoader:
    return BatchLoader(
        sampler=sampler,
        tokenize=own_tokenize(encoder),
        tokenize_of=tokenize_each(copy.deepcopy(encoder.tokenizer), encoder.config, config.corpora),
        rank=rank(),
        world_size=world_size(),
        cutting=cutting,
        hard_negatives=config.loss.hard_negatives,
        positives=config.loss.most_positives,
        translations=config.loss.aligns,
        guide=guide,
        scores=config.loss.is_taught,
        has_terms=config.loss.has_terms,
        seed=config.seed,
    )


def _build_validations(
    config: RunConfig,
    corpora: OpenCorpora,
    tasks: Sequence[RetrievalTask],
    encoder: Encoder,
    strategy: Strategy,
    loss: Loss,
    device: torch.device,
    cutting: Cutting,
    say: Say,
) -> dict[str, Validation]:
    """By what validation.metric calls them."""
    built: dict[str, Validation] = {}
    prompted = tokenize_each(
        copy.deepcopy(encoder.tokenizer), encoder.config, config.validation.corpora, "validation.corpora"
    )
    validation = build_validation(
        config,
        corpora.validation,
        strategy,
        loss,
        own_tokenize(encoder),
        device,
        cutting=cutting,
        tokenize_of=prompted,
    )
    if validation is not None:
        built["map" if config.validation.metric == "map" else "loss"] = validation
        for line in validation.left_out:
            say(line)
    return built | task_validations(config, tasks, strategy)


def report_translations(config: RunConfig, sampler: BatchSampler) -> list[str]:
    """A line on every data set that loss.alignment finds only some translations in; the main process looks first.

    Raises:
        UserError: there are none at all.
    """
    if not config.loss.aligns:
        return []
    return main_first(lambda: without_translations(sampler, progress=rank() == 0))


def report_scores(config: RunConfig, corpora: OpenCorpora) -> list[str]:
    """A line on every training corpus in which the teacher's scores are missing that loss.teacher goes by.

    Raises:
        UserError: there are none at all.
    """
    if not config.loss.is_taught:
        return []
    if not any(corpus.has_scores for corpus in corpora.training):
        raise UserError(
            "loss.teacher goes by a teacher's scores, but no corpus has any: add them with hybatch score, or leave "
            "loss.teacher out"
        )
    missing = main_first(lambda: [(corpus.name, *corpus.missing_scores()) for corpus in corpora.training])
    return [
        f"{name}: {number:,} of {total:,} passages and hard negatives have no score; loss.teacher leaves them out"
        for name, number, total in missing
        if number
    ]


def _open_guide(config: RunConfig, sampler: BatchSampler, accelerator: Accelerator, say: Say) -> GuideTable | None:
    if config.loss.guide_model is None:
        return None
    asked_as = {KINDS[cell.kind].query_text for cell in sampler.cells}
    roles: list[Role] = ["query", "passage"] if "question" in asked_as else ["passage"]
    return open_guide(
        config.loss.guide_model,
        sampler.corpora,
        sampler.languages,
        roles=roles,
        hard_negatives=config.loss.hard_negatives > 0,
        device=accelerator.device,
        say=say,
    )


def report_shared_texts(config: RunConfig, corpora: OpenCorpora, say: Say) -> None:
    """Say how many validation texts each training corpus holds."""
    if not config.validation.count_shared_texts:
        return
    for validation in corpora.validation:
        for training in corpora.training:
            counts = run_on_main(lambda t=training, v=validation: count_shared_texts(t, v))  # type: ignore[misc]
            say(
                f"shared texts: {counts.shared:,} of the {counts.texts:,} distinct texts of {validation.name} "
                f"(validation) also stand in {training.name} (training)"
            )


def build_run_encoder(config: RunConfig, folder: RunFolder, corpora: OpenCorpora, languages: Sequence[str]) -> Encoder:
    """The encoder as it is before the first step, the same on every process.

    A fresh one is made by the main process, saved in initial/ and read from there by all, so that its tokenizer is
    trained once.
    """
    prompts = saved_prompts(config.model, config.corpora, [corpus.name for corpus in corpora.training])
    if config.model.fresh is not None:
        run_on_main(lambda: _save_fresh(config, folder, corpora, languages))
        encoder = build_encoder(replace(config.model, backbone=str(folder.initial), fresh=None), seed=config.seed)
        encoder.config = replace(encoder.config, backbone=config.model.backbone, fresh=config.model.fresh)
        encoder.prompts = prompts
        return encoder
    encoder = main_first(lambda: build_encoder(config.model, seed=config.seed))
    encoder.prompts = prompts
    if config.training.save_initial:
        run_on_main(lambda: _save_pretrained(encoder, config, folder, corpora, languages))
    return encoder


def _refuse_tokenless(
    config: RunConfig, folder: RunFolder, corpora: OpenCorpora, encoder: Encoder, languages: Sequence[str]
) -> None:
    """Of the texts of a run that begins; one that goes on has the same, which were looked at then."""
    if folder.checkpoints.steps():
        return
    hard_negatives = config.loss.hard_negatives > 0
    refuse_tokenless_texts(encoder, corpora.training, languages, hard_negatives=hard_negatives)
    for corpus in corpora.validation:
        measured = config.validation.languages or corpus.languages
        refuse_tokenless_texts(encoder, [corpus], measured, hard_negatives=hard_negatives)


def _save_pretrained(
    encoder: Encoder, config: RunConfig, folder: RunFolder, corpora: OpenCorpora, languages: Sequence[str]
) -> None:
    # Whether it stands there already is for the main process alone to see: others look when it may just have saved it.
    if not folder.initial.exists():
        save_encoder(encoder, folder.initial, origin=_initial_origin(config, corpora, languages))


def _save_fresh(config: RunConfig, folder: RunFolder, corpora: OpenCorpora, languages: Sequence[str]) -> None:
    if not folder.initial.exists():
        texts = tokenizer_texts(config.model, corpora, languages)
        encoder = build_encoder(config.model, seed=config.seed, texts=texts)
        save_encoder(encoder, folder.initial, origin=_initial_origin(config, corpora, languages))


def _initial_origin(config: RunConfig, corpora: OpenCorpora, languages: Sequence[str]) -> Origin:
    return run_origin(config, names=[corpus.name for corpus in corpora.training], languages=languages, step=0)


def tokenizer_texts(model: EncoderConfig, corpora: OpenCorpora, languages: Sequence[str]) -> Sequence[str]:
    """What a fresh backbone's tokenizer is trained on."""
    assert model.fresh is not None
    return list(some_texts(corpora.training, languages, model.fresh.tokenizer_texts))


def own_tokenize(encoder: Encoder) -> Tokenize:
    """The encoder's `tokenize` on a copy of its tokenizer: two threads must not share one."""
    tokenizer, config = copy.deepcopy(encoder.tokenizer), encoder.config

    def tokenize_copy(texts: list[str], role: Role) -> Features:
        return tokenize(tokenizer, config, texts, role)

    return tokenize_copy


def _about_updates(encoder: Encoder) -> list[str]:
    """How much of an encoder with a frozen backbone learns."""
    if not encoder.lora_layers:
        return []
    every = sum(parameter.numel() for parameter in encoder.parameters())
    learning = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    return [f"model.lora: updates beside {len(encoder.lora_layers)} layers; {learning:,} of {every:,} parameters learn"]


def _about_padding(config: RunConfig, encoder: Encoder) -> list[str]:
    """What the user should know of how texts go through the backbone."""
    lines = []
    if encoder.padded_because is not None:
        lines.append(f"texts are padded to the longest of their chunk: {encoder.padded_because}")
    limit = config.training.chunk_tokens
    longest = max(config.model.query_max_length, config.model.passage_max_length)
    if limit is not None and limit < longest:
        lines.append(f"training.chunk_tokens is {limit}, a text may have {longest} tokens: a longer one stands alone")
    return lines


def _compile(encoder: Encoder) -> None:
    # Compiled code draws dropout in an order of its own, other with gradient than without: the two passes of gradient
    # caching would not see the same.
    torch._inductor.config.fallback_random = True
    encoder.backbone.compile(dynamic=True)  # in place: names of weights, and what is saved, stay as they are


def _build_strategy(config: RunConfig, encoder: Encoder, prepared: PreparedEngine) -> Strategy:
    training = config.training
    build_optimizer = partial(
        build_adamw,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        betas=training.betas,
        epsilon=training.epsilon,
    )
    return build_strategy(
        check_strategy(training.strategy, prepared),
        encoder,
        build_optimizer,
        prepared=prepared,
        deepspeed_options=check_engine_options(
            prepared, batch_size=config.sampling.batch_size, max_grad_norm=training.max_grad_norm
        ),
        autocast_dtype=torch.bfloat16 if training.is_bf16 else None,
    )


def _build_engine(config: RunConfig, strategy: Strategy, loss: Loss) -> StepEngine:
    training = config.training

    def learning_rate_at(step: int) -> float:
        factor = learning_rate_factor(
            step, total_steps=training.steps, warmup_steps=training.warmup(), shape=training.schedule
        )
        return training.learning_rate * factor

    return StepEngine(
        strategy=strategy,
        loss=loss,
        cached=training.is_cached,
        agrees_on_chunks=strategy.equal_chunks and training.chunk_tokens is not None,
        learning_rate_at=learning_rate_at,
        max_grad_norm=training.max_grad_norm,
    )


def _check_validation(config: RunConfig, corpora: OpenCorpora) -> None:
    """Fail before the encoder is built if the held-out data cannot be measured on as the options say."""
    if not corpora.validation:
        return
    check_languages(config, corpora.validation)
    if config.validation.metric != "map":
        validation_samplers(config, corpora.validation)
