"""What a run reports: metrics.jsonl, trackers and the progress bar."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from hybatch.atomic import atomic_file
from hybatch.processes import rank
from hybatch.training.run.trackers import Trackers

# What trackers get of a step.
_LOGGED = (
    "loss",
    "alignment",
    "kept_out",
    "teacher",
    "grad_norm",
    "learning_rate",
    "examples_per_second",
    "tflops",
    "mfu",
    "padding",
)
# And what begins with this, the loss of so many leading dimensions.
_OF_WIDTH = "loss_"


class MetricsFile:
    """metrics.jsonl: one object a line, every step once.

    Lines of steps have step (counted from 1), kind, dataset, language, loss, with loss.alignment alignment (the term in
    the loss, before its weight) and aligned (examples whose query has a translation), with loss.filter kept_out (pairs
    of a query and a candidate of the batch that it left out), with loss.teacher teacher (its term in the loss, before
    its weight) and taught (queries that have scores), with loss.dimensions loss_N for each number N of them (before its
    weight), grad_norm, learning_rate, examples_per_second, tflops and, in bf16 on GPUs whose peak is known, mfu (both
    of the main process's device, see `flops.rates`), displaced (examples that gave way to another passage group),
    padding (share of the encoded tokens);
    lines of steps whose update was left out have step, kind, dataset, language and "skipped", the reason;
    lines of validations have step and "validation": {metric: value}.
    """

    def __init__(self, path: Path, *, last_step: int) -> None:
        """Go on after `last_step`; lines of later steps, and a line cut short, come from a run that was killed."""
        kept = b""
        if path.exists():
            kept = b"".join(line for line in path.read_bytes().splitlines(keepends=True) if _within(line, last_step))
        with atomic_file(path, "wb") as file:
            file.write(kept)
        self._file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Hand the lines to the system: a killed process no longer loses them."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _within(line: bytes, last_step: int) -> bool:
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= last_step
    except (ValueError, KeyError, TypeError):
        return False


class KindAverages:
    """Running means per batch kind since they were last taken."""

    def __init__(self) -> None:
        self._rows: dict[str, list[float]] = defaultdict(list)

    def add(self, kind: str, loss: float) -> None:
        self._rows[kind].append(loss)

    def take(self) -> dict[str, float]:
        means = {f"loss/{kind}": sum(losses) / len(losses) for kind, losses in sorted(self._rows.items())}
        self._rows.clear()
        return means


class Reporter:
    """Writes metrics on the main process and does nothing on the others."""

    def __init__(
        self,
        trackers: Trackers,
        path: Path,
        *,
        first_step: int,
        total_steps: int,
        batch_size: int,
        log_every: int,
    ) -> None:
        self._trackers = trackers
        self._is_main = rank() == 0
        self._log_every = log_every
        self._batch_size = batch_size
        self._averages = KindAverages()
        self._num_skipped = 0
        self._file = MetricsFile(path, last_step=first_step) if self._is_main else None
        self._bar = tqdm(
            total=total_steps * batch_size,
            initial=first_step * batch_size,
            desc="training",
            unit="ex",
            unit_scale=True,
            disable=not self._is_main,
            dynamic_ncols=True,
        )

    def step(self, row: dict[str, Any]) -> None:
        """Take in the metrics of one step; `row` has at least step, kind and loss."""
        if self._file is None:
            return
        self._file.write(row)
        self._averages.add(row["kind"], row["loss"])
        self._bar.set_postfix_str(f"loss {row['loss']:.3f} {row['kind']}", refresh=False)
        self._bar.update(self._batch_size)
        if row["step"] % self._log_every == 0:
            self._file.flush()
            values = {name: value for name, value in row.items() if name in _LOGGED or name.startswith(_OF_WIDTH)}
            self._trackers.log(values | self._averages.take(), step=row["step"])

    def skipped(self, names: Mapping[str, Any], *, loss: float, grad_norm: float) -> None:
        """Take in a step whose update was left out; `names` has step, kind, dataset and language."""
        if self._file is None:
            return
        reason = f"loss {loss}, gradient norm {grad_norm}"
        self._file.write({**names, "skipped": reason})
        self._num_skipped += 1
        self._trackers.log({"skipped_steps": self._num_skipped}, step=names["step"])
        self._bar.update(self._batch_size)
        self.say(f"step {names['step']} ({names['kind']}, {names['dataset']}, {names['language']}): {reason}; left out")

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        if self._file is None:
            return
        self._file.write({"step": step, "validation": dict(values)})
        self._trackers.log({f"validation/{name}": value for name, value in values.items()}, step=step)
        self.say(f"step {step}: validation " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))

    def say(self, line: str) -> None:
        """Print a line on the main process without breaking the progress bar."""
        if self._is_main:
            self._bar.write(line)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        self._bar.close()
        if self._file is not None:
            self._file.close()
