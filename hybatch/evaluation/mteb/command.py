"""`hybatch mteb`: tasks of the benchmark MTEB on a saved encoder, run by the installed package `mteb`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hybatch.errors import UserError
from hybatch.evaluation.encoder_options import add_encoder_options, check_device, device_of
from hybatch.evaluation.mteb.model import find_model, load_model, settle_prompts
from hybatch.evaluation.mteb.results import row_names, task_name, to_results
from hybatch.evaluation.mteb.sharing import load_main_first, shared_cache
from hybatch.evaluation.mteb.tasks import find_tasks, import_mteb
from hybatch.evaluation.results import check_output, write_results
from hybatch.evaluation.table import results_table
from hybatch.models import Role
from hybatch.paths import path_of
from hybatch.processes import launched_group, main_first, rank, run_on_main, world_size
from hybatch.terminal import table_console

SUMMARY = "run tasks of MTEB on a model, with the installed package mteb"


def main(argv: Sequence[str]) -> int:
    """Run `hybatch mteb` and return its exit code.

    Below --output, `results/<model>/<revision>/<task>.json` are mteb's own files, and `<task>/results.json` is what
    `hybatch report` reads. A task whose file is there already is not run again, unless the model has changed. Under a
    launcher with several processes all of them encode, and the first one reads and writes the files.

    Raises:
        UserError: mteb is missing, an option, a task or the model cannot be used, or a task's data cannot be fetched.
    """
    arguments = _parser().parse_args(argv)
    check_device(arguments)
    with launched_group():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    tasks = find_tasks(arguments.tasks, arguments.languages)
    model, folder = main_first(lambda: find_model(arguments.model))
    prompts = settle_prompts(model, folder, query=arguments.query_prompt, passage=arguments.passage_prompt)
    if arguments.output:
        run_on_main(lambda: _check_outputs(arguments, tasks, model))
    prefixes = _prefixes(arguments)
    device = device_of(arguments)
    encoder = load_model(model, folder, prompts, device=device)
    console = table_console()
    for task in tasks:
        started = time.perf_counter()
        results = to_results(task, _measure(encoder, task, arguments), model=model) | prefixes
        seconds = time.perf_counter() - started
        timings = {"total_seconds": seconds, "device": device, "processes": world_size()}
        run_on_main(lambda: _report(arguments, task, results, timings, console))  # noqa: B023 (called at once)
    if arguments.output and rank() == 0:
        print(f"wrote {arguments.output}: results.json of each task, and mteb's own files under results/")
    return 0


def _check_outputs(arguments: argparse.Namespace, tasks: Sequence[Any], model: str) -> None:
    for task in tasks:
        check_output(
            arguments.output / task.metadata.name,
            task=task_name(task),
            model=model,
            languages=row_names(task),
            overwrite=arguments.overwrite,
            prefixes=_prefixes(arguments).get("prefixes"),
        )


def _prefixes(arguments: argparse.Namespace) -> dict[str, dict[Role, str]]:
    """What results say of the prompts: those given in the place of the model's own, as `hybatch evaluate` has them."""
    given: dict[Role, str | None] = {"query": arguments.query_prompt, "passage": arguments.passage_prompt}
    found = {role: text for role, text in given.items() if text is not None}
    return {"prefixes": found} if found else {}


def _report(
    arguments: argparse.Namespace, task: Any, results: dict[str, Any], timings: dict[str, Any], console: Console
) -> None:
    if arguments.output:
        write_results(arguments.output / task.metadata.name, results, timings)
    console.print(results_table(results))


def _measure(encoder: Any, task: Any, arguments: argparse.Namespace) -> Any:
    """mteb's TaskResult."""
    mteb = import_mteb()
    load_main_first(task)
    try:
        outcome = mteb.evaluate(
            encoder,
            task,
            encode_kwargs={"batch_size": arguments.batch_size},
            show_progress_bar=rank() == 0,
            cache=_cache(mteb, encoder, task, arguments.output) if arguments.output else None,
            overwrite_strategy="always" if arguments.overwrite else "only-missing",
            co2_tracker=False,
        )
    except OSError as error:
        raise UserError(
            f"--tasks {task.metadata.name}: its data cannot be read or fetched, or its results not be written ({error})"
        ) from error
    if outcome.exceptions:
        raise UserError(f"--tasks {task.metadata.name}: {outcome.exceptions[0].exception}")
    return outcome.task_results[0]


def _cache(mteb: Any, encoder: Any, task: Any, output: Path) -> Any:
    """mteb's cache below `output`, without the task's file where a kill cut it short: mteb fails on such a file."""
    cache = shared_cache(mteb, output)
    if rank() > 0:
        return cache
    file = cache.get_task_result_path(task.metadata.name, encoder.mteb_model_meta)
    if file.exists():
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            file.unlink()
    return cache


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch mteb", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "--model", required=True, metavar="RUN_OR_PATH", help="a training run's folder, a saved encoder or a hub id"
    )
    parser.add_argument("--tasks", required=True, nargs="+", metavar="NAME", help="tasks by mteb's names")
    parser.add_argument(
        "--languages", nargs="+", metavar="LANG", help="only these, ISO 639-3 codes with or without script (swh-Latn)"
    )
    parser.add_argument(
        "--output", type=path_of("--output"), metavar="DIR", help="write mteb's files and results.json there"
    )
    parser.add_argument("--overwrite", action="store_true", help="measure again what --output has")
    parser.add_argument("--query-prompt", metavar="TEXT", help="put before queries; default: what the model says")
    parser.add_argument("--passage-prompt", metavar="TEXT", help="put before passages; default: what the model says")
    add_encoder_options(parser)
    return parser
