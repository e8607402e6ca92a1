"""The training loop."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from hybatch.backends import agree_on_backends
from hybatch.errors import UserError
from hybatch.models.flops import bf16_peak_tflops, rates
from hybatch.models.parts import check_backbone, embedding_width
from hybatch.ops.backend import agreed
from hybatch.processes import main_first, rank, run_on_main, sum_over_processes, world_size
from hybatch.training.checkpoints.backbone_weights import changed_weights
from hybatch.training.checkpoints.checkpoint import Checkpoint, Description
from hybatch.training.checkpoints.encoder import save_encoder
from hybatch.training.checkpoints.model_description import describe_model
from hybatch.training.checkpoints.surroundings import surroundings
from hybatch.training.checkpoints.writer import CheckpointWriter
from hybatch.training.config import RunConfig
from hybatch.training.run.assembly import RunParts, assemble, check_config_for_processes
from hybatch.training.run.metrics import Reporter
from hybatch.training.run.origin import run_origin
from hybatch.training.run.out_of_memory import naming_memory
from hybatch.training.run.precision import settle_precision
from hybatch.training.run.run_folder import RunFolder, check_shared, claimed, resume_from
from hybatch.training.run.threads import about_threads
from hybatch.training.run.trackers import Trackers
from hybatch.training.step.batches import LocalBatch, describe
from hybatch.training.step.engine import StepResult
from hybatch.training.step.guide import check_guide
from hybatch.training.step.nonfinite import SkippedSteps
from hybatch.training.step.prefetch import Prefetcher
from hybatch.training.strategy import prepared_engine
from hybatch.training.survival.agreement import check_agreement, facts_at_start, facts_of_batch
from hybatch.training.survival.stopping import STOPPING_SIGNALS, BestSoFar, StopRequest
from hybatch.training.survival.watchdog import Watchdog
from hybatch.training.validation.measures import Validation


def train(config: RunConfig, accelerator: Accelerator, stop: StopRequest) -> int:
    """Train, or go on training, and save the encoder in final/; collective.

    Returns:
        exit code: 0, or 128 + the number of the signal that stopped the run after its current step was saved.

    Raises:
        UserError: something in the configuration, the data or the output folder does not allow the run, or the disk
            is full.
        JobFailed: another process died, hangs or gave up.
        Stopped: a signal came before the first step.
    """
    check_config_for_processes(config, prepared_engine(accelerator))
    limits = config.training
    with (
        Watchdog(silence_seconds=limits.heartbeat_seconds, step_minutes=limits.timeout_minutes) as watchdog,
        ExitStack() as held,
    ):
        check_agreement(facts_at_start(config, surroundings(accelerator.device, "").versions), "at the start")
        for line in (settle_precision(config.training, accelerator.device), about_threads(accelerator.device)):
            if line:
                accelerator.print(line)
        folder = RunFolder(config)
        run_on_main(lambda: held.enter_context(claimed(folder, config, accelerator.print)))
        check_shared(folder)
        config.model.unpad = run_on_main(lambda: config.model.unpad)  # what the folder's run began with
        if run_on_main(lambda: folder.is_finished):
            accelerator.print(f"{folder.directory} holds the finished run: {folder.final}")
            return 0
        main_first(lambda: check_backbone(config.model))
        if config.loss.trained_widths:
            config.loss.check_width(main_first(lambda: embedding_width(config.model)))
        if config.loss.guide_model is not None:
            main_first(lambda: check_guide(str(config.loss.guide_model)))
        parts = assemble(config, folder, accelerator, accelerator.print)
        return TrainingLoop(config, folder, parts, accelerator, watchdog).run(stop)


class TrainingLoop:
    """One run from its first or its last saved step to its end."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, parts: RunParts, accelerator: Accelerator, watchdog: Watchdog
    ) -> None:
        self._config = config
        self._folder = folder
        self._parts = parts
        self._accelerator = accelerator
        self._watchdog = watchdog
        self._device = accelerator.device
        strategy = parts.engine.strategy
        self._surroundings = surroundings(accelerator.device, strategy.name)
        self._model = describe_model(parts.encoder)
        self._started_from = parts.backbone_weights
        self._writer = CheckpointWriter(
            folder.checkpoints, strategy, background=config.training.checkpoint_in_background
        )
        larger_is_better = parts.selecting is not None and parts.selecting.larger_is_better
        self._best = BestSoFar(
            larger_is_better=larger_is_better,
            patience=config.validation.patience,
            from_step=config.select_from_step(),
        )
        self._skipped = SkippedSteps(config.training.on_nonfinite, limit=config.training.max_skipped_steps)
        has_peak = config.training.is_bf16 and self._device.type == "cuda"
        self._peak_tflops = bf16_peak_tflops(torch.cuda.get_device_name(self._device)) if has_peak else None
        self._saved_at = time.monotonic()

    def run(self, stop: StopRequest) -> int:
        checkpoint = self._resume()
        with agreed(self._surroundings.backends):
            return self._run(checkpoint, stop)

    def _run(self, checkpoint: Checkpoint | None, stop: StopRequest) -> int:
        first_step = checkpoint.step if checkpoint is not None else 0
        self._step = first_step
        trackers = Trackers(self._accelerator, lambda line: self._reporter.say(line))
        trackers.start(first_step=first_step)
        config = self._config
        self._reporter = Reporter(
            trackers,
            self._folder.metrics,
            first_step=first_step,
            total_steps=config.training.steps,
            batch_size=config.sampling.batch_size,
            log_every=config.training.log_every,
        )
        try:
            stop.finish_steps()
            self._watchdog.progress(first_step)
            if checkpoint is not None and checkpoint.state["validation_due"]:
                self._validate(first_step)
            exit_code = self._steps(first_step, stop)
            self._writer.wait()
            if exit_code == 0:
                self._save_encoder(self._folder.final)
                self._reporter.say(self._done())
        finally:
            self._writer.close()
            self._reporter.close()
            trackers.finish()
        return exit_code

    def _steps(self, first_step: int, stop: StopRequest) -> int:
        total_steps = self._config.training.steps
        remaining = range(first_step, first_step if self._best.exhausted else total_steps)
        self._parts.encoder.train()
        with Prefetcher(self._parts.loader.load, remaining) as batches:
            started = time.perf_counter()
            for local in batches:
                if local.batch.step == first_step:
                    check_agreement(facts_of_batch(local.batch), "on the first batch")
                with naming_memory(self._config, local.batch.step + 1):
                    result = self._parts.engine.step(local.to(self._device))
                losses, stopped_by, save_now = self._agree(result, stop)
                self._step = step = local.batch.step + 1
                self._watchdog.progress(step)
                self._report(step, local, result, losses, time.perf_counter() - started)
                validation_due = bool(self._due(step))
                if stopped_by and step < total_steps:
                    # The time that is left after a signal is for the checkpoint; the resumed run validates first.
                    self._save_checkpoint(local, wait=True, validation_due=validation_due)
                    return self._stopped(step, stopped_by)
                if validation_due:
                    self._validate(step)
                done = step == total_steps or self._best.exhausted
                if done or save_now or self._checkpoint_due(step):
                    self._save_checkpoint(local, wait=done, validation_due=False)
                if done:
                    break
                started = time.perf_counter()
        return 0

    def _agree(self, result: StepResult, stop: StopRequest) -> tuple[dict[str, float], int, bool]:
        """Loss of the global batch, and the terms in it where there are any; the signal that told any process to
        stop; whether a checkpoint is due by the clock.

        The same message tells whether every process has written its share of the checkpoint in the background.
        """
        minutes = self._config.training.checkpoint_every_minutes
        is_late = rank() == 0 and minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        flags = [is_late, self._writer.share_is_missing, *(stop.signal == number for number in STOPPING_SIGNALS)]
        losses = result.terms.means()
        mine = [loss.view(1) for loss in losses.values()]
        mine.append(torch.tensor(flags, dtype=torch.float32, device=self._device))
        summed = iter(sum_over_processes(torch.cat(mine)).tolist())
        means = {name: next(summed) / world_size() for name in losses}
        late, missing, *votes = summed
        if not missing:
            self._writer.seal()
        stopped_by = next((number for number, vote in zip(STOPPING_SIGNALS, votes, strict=True) if vote), 0)
        return means, stopped_by, late > 0

    def _report(
        self, step: int, local: LocalBatch, result: StepResult, losses: dict[str, float], seconds: float
    ) -> None:
        names = {"step": step, **describe(local.batch, self._parts.sampler)}
        loss = losses["loss"]
        if self._skipped.take(loss, result.grad_norm):
            self._reporter.skipped(names, loss=loss, grad_norm=result.grad_norm)
            if self._skipped.too_many:
                self._writer.wait()
                corpus = self._parts.sampler.corpora[local.batch.dataset]
                raise UserError(self._skipped.reason(names, corpus, local.batch, loss, result.grad_norm))
            return
        self._reporter.step(
            {
                **names,
                **losses,
                **({} if local.translated_A is None else {"aligned": local.num_translated}),
                **{name: int(number) for name, number in result.terms.counts().items()},
                "grad_norm": result.grad_norm,
                "learning_rate": result.learning_rate,
                "examples_per_second": round(len(local.batch.examples) / seconds, 1),
                **self._rates(local, seconds),
                "displaced": local.batch.displaced,
                "padding": round(1 - local.num_tokens / local.num_padded, 4),
            }
        )

    def _rates(self, local: LocalBatch, seconds: float) -> dict[str, float]:
        cached = self._parts.engine.cached
        return rates(self._parts.flops, local.shapes, cached=cached, seconds=seconds, peak_tflops=self._peak_tflops)

    def _validate(self, step: int) -> None:
        figures: dict[str, float] = {}
        for validation in self._due(step):
            with naming_memory(self._config, step, validating=True):
                measured = validation.measure()
            self._watchdog.progress(step)
            if validation is not self._parts.selecting:
                del measured["selection"]
            figures |= measured
        if figures:
            self._reporter.validation(step, figures)
        if "selection" not in figures:
            return
        if self._best.update(figures["selection"], step):
            self._save_encoder(self._folder.best)
        elif self._best.exhausted:
            self._reporter.say(f"stopping early at step {step}: {self._best.reason_to_stop}")

    def _due(self, step: int) -> list[Validation]:
        """What is measured after a step."""
        is_last = step == self._config.training.steps
        return [one for one in self._parts.validations if is_last or step % one.every_steps == 0]

    def _save_encoder(self, directory: Path) -> None:
        weights = self._parts.engine.strategy.state_dict()
        sampler = self._parts.sampler
        names = [corpus.name for corpus in sampler.corpora]
        origin = run_origin(self._config, names=names, languages=sampler.languages, step=self._step)
        run_on_main(lambda: save_encoder(self._parts.encoder, directory, weights, origin=origin))

    def _checkpoint_due(self, step: int) -> bool:
        every = self._config.training.checkpoint_every_steps
        return every is not None and step % every == 0

    def _save_checkpoint(self, local: LocalBatch, *, wait: bool, validation_due: bool) -> None:
        step = local.batch.step + 1
        check_agreement(facts_of_batch(local.batch), f"at the checkpoint of step {step}")
        self._reporter.flush()
        state = {"best": self._best.state(), "skipped": self._skipped.in_a_row, "validation_due": validation_due}
        description = Description(
            step=step,
            state=state,
            model=self._model,
            fingerprints=self._parts.fingerprints,
            surroundings=self._surroundings,
            backbone_weights=self._started_from,
        )
        self._writer.write(description, wait=wait)
        self._watchdog.progress(step)
        self._saved_at = time.monotonic()

    def _resume(self) -> Checkpoint | None:
        """Take up the newest intact checkpoint."""
        checkpoint: Checkpoint | None = run_on_main(
            lambda: resume_from(self._folder, self._parts.fingerprints, self._model, self._accelerator.print)
        )
        self._choose_backends(checkpoint)
        if checkpoint is None:
            return None
        remark = self._about_base(checkpoint)
        self._parts.engine.strategy.load(checkpoint.directory)
        self._best.restore(checkpoint.state["best"])
        self._skipped.in_a_row = checkpoint.state["skipped"]
        self._accelerator.print(f"going on after step {checkpoint.step} from {checkpoint.directory}")
        changes = checkpoint.surroundings.differences(self._surroundings)
        if changes:
            self._accelerator.print(
                f"not the surroundings of the checkpoint ({', '.join(changes)}): results will not repeat bit for bit"
            )
        self._started_from = checkpoint.backbone_weights
        if remark:
            self._accelerator.print(remark)
        return checkpoint

    def _about_base(self, checkpoint: Checkpoint) -> str | None:
        """What to say where the backbone has changed since the run's start.

        Raises:
            UserError: it has, or that cannot be told, and the checkpoint holds updates of these weights alone.
        """
        model, before, now = self._config.model, checkpoint.backbone_weights, self._parts.backbone_weights
        changed = ", ".join(changed_weights(before, now))
        found = f"model.backbone {model.backbone} no longer holds the weights that this run started from"
        if model.lora is not None and before != now:
            raise UserError(
                f"{found} ({changed or 'what it holds is unknown'}), and {checkpoint.directory} holds updates of those "
                "alone (model.lora): restore the backbone, or name a new output_dir"
            )
        return f"{found} ({changed}): it goes on with those of the checkpoint" if changed else None

    def _choose_backends(self, checkpoint: Checkpoint | None) -> None:
        """For all processes alike, and as before in a run that goes on: a backend moves last bits of the loss."""
        if self._config.loss.holds_logits:
            return
        before = None if checkpoint is None else checkpoint.surroundings.backends
        self._surroundings = replace(self._surroundings, backends=agree_on_backends(self._device, before))

    def _done(self) -> str:
        """What the run has left, and what may be done with it."""
        line = f"done: {self._folder.final} holds the encoder of step {self._step}"
        if self._folder.best.is_dir():
            line += f", {self._folder.best} that of the best validation (step {self._best.step})"
        return f"{line}; measured by: hybatch evaluate --model {self._folder.final} --task TASK"

    def _stopped(self, step: int, number: int) -> int:
        name = signal.Signals(number).name
        self._reporter.say(f"stopped by {name} after step {step}; the same command goes on from its checkpoint")
        return 128 + number
