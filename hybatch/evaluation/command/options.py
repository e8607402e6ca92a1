"""The options of `hybatch evaluate`, and what they say of source and scoring."""

from __future__ import annotations

import argparse
import os
from typing import get_args

import torch

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.listing import tasks_table
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.collection.gpus import SEARCH_DEVICES
from hybatch.evaluation.collection.own import OWN_DOCUMENTS
from hybatch.evaluation.collection.search import METHODS
from hybatch.evaluation.encoder_options import add_encoder_options, device_of
from hybatch.evaluation.encoding.precision import AUTO, PRECISIONS, settle_precision
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import ScoringOptions
from hybatch.evaluation.vectors.kinds import VECTOR_KINDS
from hybatch.models import Role
from hybatch.models.folder.prompts import further_prompts, names_of, prompts_of
from hybatch.options import number_of
from hybatch.paths import folder_of, path_of
from hybatch.terminal import table_console


class _ListTasks(argparse.Action):
    """Prints the table of tasks and leaves, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        table_console().print(tasks_table(TASKS.values()))
        parser.exit()


def evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybatch evaluate",
        description="Score a model, or ready embeddings, in every language setting of a task.",
        epilog="Several processes: accelerate launch -m hybatch evaluate ... gives the same results.json.",
    )
    _add_source_options(parser)
    _add_task_options(parser)
    _add_output_options(parser)
    _add_run_options(parser)
    _add_vector_options(parser.add_argument_group("small vectors, of tasks that rank every language setting"))
    _add_search_options(parser.add_argument_group("tasks that search a collection"))
    return parser


def _add_source_options(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--debias",
        type=path_of("--debias"),
        metavar="DIR",
        help="with --embeddings: move them as the encoder in DIR, which hybatch debias wrote, moves its vectors",
    )
    for role in get_args(Role):
        parser.add_argument(
            f"--{role}-prefix",
            metavar="TEXT",
            help=f"put before every {role} in the place of what the model says; '' for nothing",
        )
    parser.add_argument(
        "--prompt",
        metavar="NAME",
        help="put before queries and passages what the model keeps for the data set NAME, which it was trained on",
    )


def _add_task_options(parser: argparse.ArgumentParser) -> None:
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


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=path_of("--output"),
        metavar="DIR",
        help="write results.json, timings.json, per_query.npz there",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other results in --output")
    parser.add_argument(
        "--save-embeddings", type=folder_of("--save-embeddings"), metavar="DIR", help="write what --embeddings reads"
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add_encoder_options(
        parser, at_once="texts encoded at once by a process at most; a CPU takes fewer where they are long"
    )
    parser.add_argument(
        "--precision",
        choices=[*PRECISIONS, AUTO],
        default="float32",
        help="of the encoder (default float32); auto: bf16 where it is faster, else float32; results name what it was, "
        "if another than float32",
    )
    parser.add_argument(
        "--compile", action="store_true", help="run the encoder through torch.compile; the first batches take a minute"
    )
    parser.add_argument("--backend", default="auto", help="of the ranking op: auto, torch, cpu or cuda (default auto)")
    parser.add_argument(
        "--similarity",
        choices=["cosine", "dot"],
        help="with --embeddings; default cosine, but dot where all values are whole numbers",
    )


def _add_vector_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dimensions",
        nargs="+",
        type=number_of("--dimensions", int, ge=1, le=1_000_000),
        default=[],
        metavar="N",
        help="cut the vectors to their first N dimensions; each N is measured, in a folder of its own below --output",
    )
    group.add_argument(
        "--vectors",
        nargs="+",
        choices=list(VECTOR_KINDS),
        default=[],
        help="what the vectors are stored as, likewise: "
        + "; ".join(f"{kind.name}: {kind.summary}" for kind in VECTOR_KINDS.values()),
    )


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
    group.add_argument(
        "--own-documents",
        choices=OWN_DOCUMENTS,
        default="leave-out",
        help="the passage that has the id of the query asked: leave-out, as BEIR does, unless it is judged relevant, "
        "or keep (default leave-out)",
    )
    group.add_argument(
        "--unknown-judgements",
        choices=["refuse", "leave-out"],
        default="refuse",
        help="judgements of queries or passages that are not there: refuse above 1%% of them, or leave-out however "
        "many; they are counted in the results (default refuse)",
    )


def source_of(arguments: argparse.Namespace) -> Source:
    """What is to be measured; read later."""
    return Source(
        model=arguments.model,
        ready=arguments.embeddings,
        similarity=arguments.similarity,
        removal=arguments.debias,
        save=arguments.save_embeddings,
        prefixes=prefixes_of(arguments),
        prompt=arguments.prompt,
    )


def prefixes_of(arguments: argparse.Namespace) -> dict[Role, str]:
    """The prefixes that are given, each or by the name of a prompt, by role.

    Raises:
        UserError: both are given, or the model has no such prompt.
    """
    given: dict[Role, str | None] = {role: getattr(arguments, f"{role}_prefix") for role in get_args(Role)}
    prefixes = {role: text for role, text in given.items() if text is not None}
    if arguments.prompt is None:
        return prefixes
    if prefixes:
        raise UserError(f"--prompt {arguments.prompt} and --{next(iter(prefixes))}-prefix: give one or the other")
    if arguments.model is None:
        raise UserError("--prompt: goes with --model; ready embeddings have their prompt in them")
    prompts = prompts_of(arguments.model)
    names = names_of(arguments.prompt)
    if not all(name in prompts for name in names.values()):
        stems = {key.rpartition(".")[0] for key in further_prompts(prompts)}
        known = sorted(stem for stem in stems if all(name in prompts for name in names_of(stem).values()))
        raise UserError(
            f"--prompt {arguments.prompt}: {arguments.model} keeps no prompts of that name; "
            + (f"there are {', '.join(known)}" if known else "it has none but its own: leave the option out")
        )
    return {role: prompts[name] for role, name in names.items()}


def scoring_options(arguments: argparse.Namespace) -> ScoringOptions:
    """How it is to be scored, on the device that is there; collective."""
    device = _device(arguments)
    return ScoringOptions(
        batch_size=arguments.batch_size,
        device=device,
        precision=settle_precision(arguments.precision, device),
        compile=arguments.compile,
        backend=arguments.backend,
        dimensions=tuple(arguments.dimensions),
        index=arguments.index,
        index_dtype=arguments.index_dtype,
        method=arguments.search,
        search_device=arguments.search_device,
        save_run=arguments.save_run,
        own_documents=arguments.own_documents,
        unknown_judgements=arguments.unknown_judgements,
    )


def _device(arguments: argparse.Namespace) -> torch.device:
    kind = device_of(arguments)
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)
