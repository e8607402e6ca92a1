"""The `hybatch` command: finds the subcommand and turns mistakes in the input into exit code 2."""

from __future__ import annotations

import importlib
import os
import sys

from hybatch.atomic import DISK_ERRORS
from hybatch.errors import UserError
from hybatch.streams import lasting_streams
from hybatch.version import __version__

# Each module has `main(argv) -> int`; they are imported on demand, because torch alone takes seconds.
COMMANDS = {
    "train": ("hybatch.train", "train an encoder; on several devices: accelerate launch -m hybatch train"),
    "batches": ("hybatch.training.preview", "show what would be trained, without loading a model"),
    "plan": ("hybatch.training.plan.command", "expected memory per strategy and time per step, without weights"),
    "evaluate": ("hybatch.reporting.evaluate", "score a model or ready embeddings in every language setting"),
    "mine": ("hybatch.evaluation.mining.command", "add hard negatives to a parallel corpus with an encoder"),
    "score": ("hybatch.evaluation.mining.score", "add a teacher's scores to a corpus's passages and hard negatives"),
    "debias": ("hybatch.evaluation.debias.command", "take what tells languages apart out of a finished encoder"),
    "average": ("hybatch.publishing.average", "write one encoder whose weights are the mean of several encoders'"),
    "mteb": ("hybatch.evaluation.mteb.command", "run tasks of MTEB on a model, with the installed package mteb"),
    "report": ("hybatch.reporting.command", "tables and figures from finished runs and results"),
    "compare": ("hybatch.reporting.compare", "how sure the differences between results are, query by query"),
    "card": ("hybatch.publishing.card", "put results, as tables and a figure, into an encoder's model card"),
    "push": ("hybatch.publishing.push", "send a finished encoder to a repository of the Hugging Face hub"),
    "export": ("hybatch.publishing.export", "write an encoder for another runtime (ONNX)"),
    "env": ("hybatch.environment", "versions, devices, and the backend that each op will use"),
}

USAGE = (
    "usage: hybatch [--version] COMMAND [OPTIONS]   (hybatch COMMAND --help lists a command's options)\n\n"
    + "".join(f"  {name:<10}{summary}\n" for name, (_, summary) in COMMANDS.items())
)


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 2 bad input or a full disk, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if argv[0] == "--version":
        print(f"hybatch {__version__}")
        return 0
    name, arguments = argv[0], argv[1:]
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    with lasting_streams():
        return _run(name, arguments)


def _run(name: str, arguments: list[str]) -> int:
    try:
        exit_code = importlib.import_module(COMMANDS[name][0]).main(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left behind", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away (`hybatch env | head`): no mistake, and closing stdout must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        if error.filename is None:  # a full disk behind stdout, which would fail again as it is closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: {error.filename or 'what is printed'}: {error.strerror}", file=sys.stderr)
        return 2
    return int(exit_code)


if __name__ == "__main__":
    sys.exit(main())
