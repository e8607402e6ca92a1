"""Train: `hybatch train --config FILE [--section.key VALUE ...]`, or on several devices through accelerate.

`accelerate launch hybatch/train.py`, `accelerate launch -m hybatch.train` and `accelerate launch -m hybatch train` are
the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__" and not __package__:
    # Run as a file, this folder comes first on the path and its subfolders would stand for other packages; the one
    # above it makes `hybatch` importable from a checkout.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hybatch.atomic import DISK_ERRORS
from hybatch.errors import UserError
from hybatch.streams import lasting_streams

if TYPE_CHECKING:
    from hybatch.training.survival.stopping import StopRequest


def main(argv: Sequence[str] | None = None) -> int:
    """Train and return the exit code.

    Returns:
        0 done; 2 bad input, a full disk or a folder that cannot be written; 128 + n stopped by signal n, with a
        checkpoint of the step that it came in (SIGPIPE: of an earlier one); 75 another process died or hangs, and the
        same command goes on.
    """
    from hybatch.training.survival.stopping import Stopped, StopRequest

    with lasting_streams(), StopRequest() as stop:
        try:
            return _train(argv, stop)
        except UserError as error:
            return _fail(str(error))
        except BrokenPipeError:
            return _without_reader()
        except OSError as error:
            if error.errno in DISK_ERRORS:
                file = error.filename or "a file of the run"
                return _fail(f"{error.strerror or error}: {file}; finished checkpoints are intact")
            raise
        except Stopped as stopped:
            print(f"{stopped}: finished checkpoints and indexes are intact", file=sys.stderr, flush=True)
            return stopped.exit_code
        except KeyboardInterrupt:
            print("interrupted: finished checkpoints and indexes are intact", file=sys.stderr, flush=True)
            return 130


def _train(argv: Sequence[str] | None, stop: StopRequest) -> int:
    from hybatch.training.config import load_run_config
    from hybatch.training.survival.orphans import end_with_launcher

    end_with_launcher()
    config = load_run_config(argv)

    # What only training needs takes seconds to import, and would keep a mistake in the options waiting.
    from hybatch.paths import expand_path
    from hybatch.processes import leave_group
    from hybatch.training.run.launch import build_accelerator
    from hybatch.training.run.loop import train
    from hybatch.training.survival.watchdog import JobFailed, report_failure

    accelerator = build_accelerator(config.training, expand_path(config.output_dir, "output_dir"))
    try:
        exit_code = train(config, accelerator, stop)
    except JobFailed as failure:
        # A group with a dead member cannot be left in order: its threads wait for ever.
        report_failure(str(failure), failure.exit_code)
        os._exit(failure.exit_code)
    leave_group()
    return exit_code


def _without_reader() -> int:
    """Say, where somebody can still read it, that a pipe was closed; exit as SIGPIPE would."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError):
        print("stopped: what read the output went away; finished checkpoints are intact", file=sys.stderr, flush=True)
    return 128 + signal.SIGPIPE


def _fail(message: str) -> int:
    process = os.environ.get("RANK", "0")
    print(f"error{f' (process {process})' if process not in ('', '0') else ''}: {message}", file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
