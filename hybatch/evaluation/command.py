"""What `hybatch evaluate` does, but for its figure: options, checks, encoding, scoring, table and files."""

from __future__ import annotations

import argparse
import datetime
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hybatch.errors import UserError
from hybatch.evaluation.bitext import BitextTask, score_bitext
from hybatch.evaluation.collection.evaluate import SearchOptions, evaluate_collections
from hybatch.evaluation.collection.gpus import SEARCH_DEVICES, gpus_for
from hybatch.evaluation.collection.search import METHODS, import_faiss
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.embeddings import StoredEmbeddings, TaskEmbeddings, check_save_directory, save_embeddings
from hybatch.evaluation.encoding import EncodedTask
from hybatch.evaluation.probe import ProbeTask, score_probe
from hybatch.evaluation.results import check_output, write_results
from hybatch.evaluation.settings.language_figures import figures_table
from hybatch.evaluation.settings.per_query import QueryTables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import TextsTask
from hybatch.evaluation.table import results_table, table_console
from hybatch.evaluation.tasks.download import download
from hybatch.evaluation.tasks.listing import tasks_table
from hybatch.evaluation.tasks.registry import TASKS, load_task
from hybatch.models import Encoder
from hybatch.ops.backend import BackendError, choose_backend
from hybatch.paths import check_writable, path_of
from hybatch.processes import launched_group, main_first, rank, world_size


@dataclass(frozen=True)
class EvaluationOutcome:
    """What an evaluation gave: the object of results.json, where it was written, and whether this process wrote it."""

    results: dict[str, Any]
    output_dir: Path | None
    is_main_process: bool


def evaluate(argv: Sequence[str]) -> EvaluationOutcome:
    """Parse the arguments, score, print the table and write results.json and timings.json.

    Under a launcher with several processes all of them compute and the first one prints and writes.

    Raises:
        UserError: an option, a file or the model cannot be used; said before the encoding begins, but for a disk that
            fills up.
    """
    arguments = _parser().parse_args(argv)
    with launched_group():
        started = time.perf_counter()
        task = main_first(lambda: _checked_task(arguments))
        per_query: QueryTables = {}
        if isinstance(task, CollectionTask):
            results, timings = _search(task, arguments, per_query)
        else:
            results, timings = _encode_and_score(task, arguments, per_query)
        timings |= {
            "total_seconds": time.perf_counter() - started,
            "processes": world_size(),
            "threads_per_process": torch.get_num_threads(),
            "device": str(_device(arguments)),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        outcome = EvaluationOutcome(results, arguments.output, rank() == 0)
    if outcome.is_main_process:
        if arguments.output:
            write_results(arguments.output, results, timings, per_query)
        table_console().print(results_table(results) if "pairs" in results else figures_table(results))
    return outcome


def _encode_and_score(
    task: TextsTask, arguments: argparse.Namespace, per_query: QueryTables
) -> tuple[dict[str, Any], dict[str, Any]]:
    embeddings, timings = _embeddings(arguments, task)
    if arguments.save_embeddings and rank() == 0:
        _save(embeddings, task, arguments.save_embeddings)
    started = time.perf_counter()
    results = _score(embeddings, task, arguments, per_query)
    return results, timings | {"scoring_seconds": time.perf_counter() - started}


def _search(
    task: CollectionTask, arguments: argparse.Namespace, per_query: QueryTables
) -> tuple[dict[str, Any], dict[str, Any]]:
    started = time.perf_counter()
    encoder = Encoder.load(arguments.model).to(_device(arguments))
    loaded = time.perf_counter()
    options = SearchOptions(
        batch_size=arguments.batch_size,
        index=arguments.index,
        index_dtype=arguments.index_dtype,
        method=arguments.search,
        search_device=arguments.search_device,
        backend=arguments.backend,
        save_run=arguments.save_run,
    )
    results, timings = evaluate_collections(
        encoder, task, model=_model_name(arguments), options=options, per_query=per_query
    )
    return results, {"loading_seconds": loaded - started, **timings}


def _score(
    embeddings: TaskEmbeddings, task: Any, arguments: argparse.Namespace, per_query: QueryTables
) -> dict[str, Any]:
    if isinstance(task, BitextTask):
        return score_bitext(
            embeddings, task, model=_model_name(arguments), device=_device(arguments), per_query=per_query
        )
    if isinstance(task, ProbeTask):
        return score_probe(embeddings, task, model=_model_name(arguments), per_query=per_query)
    return score(
        embeddings,
        task,
        model=_model_name(arguments),
        backend=arguments.backend,
        device=_device(arguments),
        per_query=per_query,
    )


class _ListTasks(argparse.Action):
    """Prints the table of tasks and leaves, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        table_console().print(tasks_table(TASKS.values()))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybatch evaluate",
        description="Score a model, or ready embeddings, in every language setting of a task.",
        epilog="Several processes: accelerate launch -m hybatch evaluate ... gives the same results.json.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model",
        metavar="PATH_OR_HUB_ID",
        help="a folder or hub id, a short name (labse, multilingual-e5-base, ...) or a folder with LASER-2",
    )
    source.add_argument(
        "--embeddings",
        type=path_of("--embeddings"),
        metavar="DIR",
        help="queries.<lang>.npy and candidates.<lang>.npy, [rows, width], rows in file order",
    )
    tasks = "; ".join(f"{name}: {entry.summary}" for name, entry in TASKS.items())
    parser.add_argument("--task", required=True, choices=list(TASKS), help=tasks)
    parser.add_argument("--list-tasks", action=_ListTasks, nargs=0, help="show all tasks with metric, source, licence")
    parser.add_argument(
        "--data-dir",
        type=path_of("--data-dir"),
        default=os.environ.get("HYBATCH_DATA_DIR") or None,
        metavar="DIR",
        help="parent of the task's folder, default HYBATCH_DATA_DIR; --task parallel: the corpus folder itself",
    )
    parser.add_argument(
        "--download", action="store_true", help="first fetch into --data-dir what the hub has of the task's files"
    )
    parser.add_argument("--languages", nargs="+", metavar="LANG", help="only these, as queries and as candidates")
    parser.add_argument(
        "--output",
        type=path_of("--output"),
        metavar="DIR",
        help="write results.json, timings.json, per_query.npz there",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other results in --output")
    parser.add_argument(
        "--save-embeddings", type=path_of("--save-embeddings"), metavar="DIR", help="write what --embeddings reads"
    )
    parser.add_argument("--batch-size", type=int, default=128, help="texts encoded at once by a process (default 128)")
    parser.add_argument("--backend", default="auto", help="of the ranking op: auto, torch, cpu or cuda (default auto)")
    parser.add_argument(
        "--similarity",
        choices=["cosine", "dot"],
        help="with --embeddings; default cosine, but dot where all values are whole numbers",
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="default: a GPU if there is one"
    )
    _add_search_options(parser.add_argument_group("tasks that search a collection"))
    return parser


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--search", choices=METHODS, default="torch", help="what retrieves (default torch, exact)")
    group.add_argument(
        "--search-device",
        choices=SEARCH_DEVICES,
        default="auto",
        help="of faiss: gpu shards the index over all GPUs; default: those that faiss sees, if any",
    )
    group.add_argument(
        "--index",
        type=path_of("--index"),
        metavar="DIR",
        help="where the passages' embeddings are kept; default: the cache",
    )
    group.add_argument(
        "--index-dtype", choices=["float32", "float16"], default="float32", help="of these embeddings (default float32)"
    )
    group.add_argument(
        "--save-run",
        type=path_of("--save-run"),
        metavar="DIR",
        help="write the passages retrieved (TREC form) and exact ranks there",
    )


def _checked_task(arguments: argparse.Namespace) -> Any:
    """Check every option that can be checked before the model is loaded, and read the task."""
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size {arguments.batch_size}: must be at least 1")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave the option out or say --device cpu")
    if arguments.embeddings and arguments.save_embeddings:
        raise UserError("--save-embeddings: has nothing to save with --embeddings; use it with --model")
    if arguments.model and arguments.similarity:
        raise UserError("--similarity: goes with --embeddings; a model's embeddings have length 1, where all agree")
    try:
        choose_backend(_device(arguments), arguments.backend)
    except (BackendError, ValueError) as error:
        raise UserError(f"--backend {arguments.backend}: {error}") from error
    if arguments.save_embeddings:
        check_save_directory(arguments.save_embeddings)
        check_writable(arguments.save_embeddings, "--save-embeddings")
    if arguments.search != "torch":
        gpus_for(import_faiss(), arguments.search, arguments.search_device)
    elif arguments.search_device != "auto":
        raise UserError("--search-device: is of faiss; --search torch searches where --device says")
    for option in ("index", "save_run"):
        if getattr(arguments, option):
            check_writable(getattr(arguments, option), f"--{option.replace('_', '-')}")
    if arguments.download and rank() == 0:
        if arguments.data_dir is None:
            raise UserError("--download: give --data-dir DIR or set HYBATCH_DATA_DIR, to say where to")
        Path(arguments.data_dir).mkdir(parents=True, exist_ok=True)
        download(TASKS[arguments.task], Path(arguments.data_dir), arguments.languages)
    task = load_task(arguments.task, arguments.data_dir, arguments.languages)
    if isinstance(task, CollectionTask) and (arguments.embeddings or arguments.save_embeddings):
        raise UserError(
            f"--task {arguments.task}: encodes its passages into shards; use --model, and --index to say where"
        )
    if arguments.output:
        check_output(
            arguments.output,
            task=task.name,
            model=_model_name(arguments),
            languages=list(task.languages),
            overwrite=arguments.overwrite,
        )
    return task


def _embeddings(arguments: argparse.Namespace, task: TextsTask) -> tuple[TaskEmbeddings, dict[str, Any]]:
    started = time.perf_counter()
    if arguments.embeddings:
        stored = StoredEmbeddings(arguments.embeddings, task, arguments.similarity)
        return stored, {"loading_seconds": time.perf_counter() - started}
    encoder = Encoder.load(arguments.model).to(_device(arguments))
    loaded = time.perf_counter()
    encoded = EncodedTask(encoder, task, batch_size=arguments.batch_size, progress=True)
    seconds = time.perf_counter() - loaded
    return encoded, {
        "loading_seconds": loaded - started,
        "encoding_seconds": seconds,
        "distinct_texts": encoded.num_distinct,
        "distinct_texts_per_second": encoded.num_distinct / seconds,
    }


def _model_name(arguments: argparse.Namespace) -> str:
    return str(arguments.model or arguments.embeddings)


def _device(arguments: argparse.Namespace) -> torch.device:
    if arguments.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _save(embeddings: TaskEmbeddings, task: TextsTask, directory: Path) -> None:
    try:
        save_embeddings(embeddings, task, directory)
    except OSError as error:
        raise UserError(f"--save-embeddings {directory}: cannot be written ({error.strerror})") from error
