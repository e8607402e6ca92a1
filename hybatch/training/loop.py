"""The training loop."""

from __future__ import annotations

import math
import signal
import time

import torch
from accelerate import Accelerator

from hybatch.errors import UserError
from hybatch.losses.gather import rank, world_size
from hybatch.models.parts import check_backbone
from hybatch.training.assembly import RunParts, assemble, check_config_for_processes
from hybatch.training.batches import LocalBatch, describe
from hybatch.training.checkpoint import Checkpoint, save_encoder, surroundings
from hybatch.training.config import RunConfig
from hybatch.training.engine import StepResult
from hybatch.training.metrics import Reporter
from hybatch.training.prefetch import Prefetcher
from hybatch.training.processes import decide, main_first, sum_over_processes
from hybatch.training.run_folder import RunFolder, open_run_folder, resume_from
from hybatch.training.stopping import BestSoFar, StopRequest
from hybatch.training.strategy import prepared_engine


def train(config: RunConfig, accelerator: Accelerator) -> int:
    """Train, or go on training, and save the encoder in final/; collective.

    Returns:
        exit code: 0, or 128 + the number of the signal that stopped the run after its current step was saved.

    Raises:
        UserError: something in the configuration, the data or the output folder does not allow the run, or the disk
            is full.
    """
    check_config_for_processes(config, prepared_engine(accelerator))
    folder = decide(lambda: open_run_folder(config))
    if decide(lambda: folder.is_finished):
        accelerator.print(f"{folder.directory} holds the finished run: {folder.final}")
        return 0
    main_first(lambda: check_backbone(config.model))
    parts = assemble(config, folder, accelerator, accelerator.print)
    return TrainingLoop(config, folder, parts, accelerator).run()


class TrainingLoop:
    """One run from its first or its last saved step to its end."""

    def __init__(self, config: RunConfig, folder: RunFolder, parts: RunParts, accelerator: Accelerator) -> None:
        self._config = config
        self._folder = folder
        self._parts = parts
        self._accelerator = accelerator
        self._device = accelerator.device
        self._surroundings = surroundings(accelerator.device)
        larger_is_better = parts.validation is not None and parts.validation.larger_is_better
        self._best = BestSoFar(larger_is_better=larger_is_better, patience=config.validation.patience)
        self._saved_at = time.monotonic()

    def run(self) -> int:
        first_step = self._resume()
        self._accelerator.init_trackers(
            "hybatch", init_kwargs={"tensorboard": {"purge_step": first_step + 1}} if first_step else {}
        )
        config = self._config
        self._reporter = Reporter(
            self._accelerator,
            self._folder.metrics,
            first_step=first_step,
            total_steps=config.training.steps,
            batch_size=config.sampling.batch_size,
            log_every=config.training.log_every,
        )
        try:
            with StopRequest() as stop:
                exit_code = self._steps(first_step, stop)
            if exit_code == 0:
                decide(lambda: save_encoder(self._parts.encoder, self._folder.final))
        finally:
            self._reporter.close()
            for tracker in self._accelerator.trackers:
                tracker.finish()
        return exit_code

    def _steps(self, first_step: int, stop: StopRequest) -> int:
        total_steps = self._config.training.steps
        remaining = range(first_step, first_step if self._best.exhausted else total_steps)
        self._parts.encoder.train()
        with Prefetcher(self._parts.loader.load, remaining) as batches:
            started = time.perf_counter()
            for local in batches:
                result = self._parts.engine.step(local.to(self._device))
                loss, stopping, save_now = self._agree(result, stop)
                step = local.batch.step + 1
                self._report(step, local, result, loss, time.perf_counter() - started)
                if step == total_steps or step % self._config.validation.every_steps == 0:
                    self._validate(step)
                done = step == total_steps or self._best.exhausted
                if done or stopping or save_now or self._checkpoint_due(step):
                    self._save_checkpoint(step)
                if stopping and not done:
                    return self._stopped(step, stop)
                if done:
                    break
                started = time.perf_counter()
        return 0

    def _agree(self, result: StepResult, stop: StopRequest) -> tuple[float, bool, bool]:
        """Loss of the global batch, whether any process was told to stop, whether the main one wants a checkpoint."""
        minutes = self._config.training.checkpoint_every_minutes
        is_late = rank() == 0 and minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes
        flags = torch.tensor([stop.signal != 0, is_late], dtype=torch.float32, device=self._device)
        loss, stopping, late = sum_over_processes(torch.cat([result.loss.view(1), flags])).tolist()
        return loss / world_size(), stopping > 0, late > 0

    def _report(self, step: int, local: LocalBatch, result: StepResult, loss: float, seconds: float) -> None:
        names = describe(local.batch, self._parts.sampler)
        if not (math.isfinite(loss) and math.isfinite(result.grad_norm)):
            raise UserError(
                f"step {step} ({names['kind']}, {names['dataset']}, {names['language']}): loss {loss}, gradient norm "
                f"{result.grad_norm}; lower training.learning_rate or raise loss.temperature. Checkpoints of earlier "
                "steps are intact"
            )
        self._reporter.step(
            {
                "step": step,
                **names,
                "loss": loss,
                "grad_norm": result.grad_norm,
                "learning_rate": result.learning_rate,
                "examples_per_second": round(len(local.batch.examples) / seconds, 1),
                "displaced": local.batch.displaced,
                "padding": round(1 - local.num_tokens / local.num_padded, 4),
            }
        )

    def _validate(self, step: int) -> None:
        if self._parts.validation is None:
            return
        figures = self._parts.validation.measure()
        self._reporter.validation(step, figures)
        if self._best.update(figures["selection"], step):
            decide(lambda: save_encoder(self._parts.encoder, self._folder.best))
        elif self._best.exhausted:
            self._reporter.say(
                f"stopping early at step {step}: no validation since step {self._best.step} was better than its "
                f"{self._best.value:.4f}"
            )

    def _checkpoint_due(self, step: int) -> bool:
        every = self._config.training.checkpoint_every_steps
        return every is not None and step % every == 0

    def _save_checkpoint(self, step: int) -> None:
        self._reporter.flush()
        decide(
            lambda: self._folder.checkpoints.write(
                step,
                self._parts.engine.strategy.save,
                state={"best": self._best.state()},
                fingerprints=self._parts.fingerprints,
                where=self._surroundings,
            )
        )
        self._saved_at = time.monotonic()

    def _resume(self) -> int:
        """Take up the newest intact checkpoint; return the steps done."""
        checkpoint: Checkpoint | None = decide(
            lambda: resume_from(self._folder, self._parts.fingerprints, self._accelerator.print)
        )
        if checkpoint is None:
            return 0
        self._parts.engine.strategy.load(checkpoint.directory)
        self._best.restore(checkpoint.state["best"])
        self._accelerator.print(f"going on after step {checkpoint.step} from {checkpoint.directory}")
        changes = checkpoint.surroundings.differences(self._surroundings)
        if changes:
            self._accelerator.print(
                f"not the surroundings of the checkpoint ({', '.join(changes)}): results will not repeat bit for bit"
            )
        return checkpoint.step

    def _stopped(self, step: int, stop: StopRequest) -> int:
        number = stop.signal or signal.SIGTERM
        name = signal.Signals(number).name
        self._reporter.say(f"stopped by {name} after step {step}; the same command goes on from its checkpoint")
        return 128 + number
