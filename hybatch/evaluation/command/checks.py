"""What `hybatch evaluate` refuses before a model is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.download import download
from hybatch.evaluation.catalogue.registry import TASKS, load_task
from hybatch.evaluation.collection.gpus import gpus_for
from hybatch.evaluation.collection.search import import_faiss
from hybatch.evaluation.collection.task import CollectionTask
from hybatch.evaluation.debiased_embeddings import read_removal
from hybatch.evaluation.embeddings import check_save_directory
from hybatch.evaluation.encoder_options import check_device
from hybatch.evaluation.encoding.precision import autocast_dtype
from hybatch.evaluation.results import check_output
from hybatch.evaluation.source import Source
from hybatch.evaluation.task import ScoringOptions, Task
from hybatch.evaluation.vectors.scoring import VectorChoice, check_vectors
from hybatch.models import Role
from hybatch.ops.backend import BackendError, choose_backend
from hybatch.paths import check_replaceable, check_writable
from hybatch.processes import rank


def checked_task(
    arguments: argparse.Namespace, source: Source, options: ScoringOptions, choices: Sequence[VectorChoice]
) -> Task:
    """Check every option that can be checked before the model is loaded, and read the task.

    Args:
        choices: of vectors that are to be measured; none for the embeddings as they are.

    Raises:
        UserError: an option or a file cannot be used.
    """
    _check_options(arguments, options)
    _check_folders(arguments)
    if arguments.download and rank() == 0:
        _download(arguments)
    task = load_task(arguments.task, arguments.data_dir, arguments.languages)
    task.check(source, options)
    check_vectors(task, choices)
    if arguments.output:
        measured = _how_measured(task, source, options)
        for choice in choices or (None,):
            check_output(
                output_folder(arguments.output, choice),
                task=task.name,
                model=source.name,
                languages=list(task.languages),
                overwrite=arguments.overwrite,
                measured=measured,
                prefixes=used_prefixes(source, task),
                precision=named_precision(source, options),
                vectors=choice.asked() if choice else None,
            )
    return task


def _how_measured(task: Task, source: Source, options: ScoringOptions) -> dict[str, Any]:
    """What decides the figures of a task, but for the model, its texts and its vectors, as results name it."""
    found: dict[str, Any] = {"data_digest": task.digest(), "search": options.method, "index_dtype": options.index_dtype}
    if source.ready is not None:
        debiased = None if source.removal is None else read_removal(source.removal).debiased
        found["debias"] = None if debiased is None else debiased.record
    if source.similarity is not None:
        found["similarity"] = source.similarity
    if isinstance(task, CollectionTask):
        found["own_documents"] = task.own_documents(options.own_documents)
    return found


def output_folder(output: Path, choice: VectorChoice | None) -> Path:
    """Where the results of a choice of vectors go; those of embeddings as they are go into --output itself."""
    return output if choice is None else output / choice.folder


def named_precision(source: Source, options: ScoringOptions) -> str | None:
    """The precision of the encoder, where results name it: another than float32."""
    return options.precision if source.model is not None and options.precision != "float32" else None


def used_prefixes(source: Source, task: Task) -> dict[Role, str]:
    """Those of the prefixes given that the task puts before any text."""
    return {role: text for role, text in source.prefixes.items() if role in task.roles.values()}


def _check_options(arguments: argparse.Namespace, options: ScoringOptions) -> None:
    check_device(arguments)
    if arguments.embeddings and arguments.save_embeddings:
        raise UserError("--save-embeddings: has nothing to save with --embeddings; use it with --model")
    if arguments.model and arguments.similarity:
        raise UserError("--similarity: goes with --embeddings; a model's embeddings have length 1, where all agree")
    if arguments.model and arguments.debias:
        raise UserError("--debias: goes with --embeddings; a debiased model is given as --model")
    if arguments.debias:
        read_removal(arguments.debias)
    for role in get_args(Role):
        if arguments.embeddings and getattr(arguments, f"{role}_prefix") is not None:
            raise UserError(f"--{role}-prefix: goes with --model; ready embeddings have their prefix in them")
    if arguments.embeddings and (arguments.precision != "float32" or arguments.compile):
        option = "--compile" if arguments.compile else "--precision"
        raise UserError(f"{option}: is of the encoder and goes with --model; ready embeddings are scored as they are")
    autocast_dtype(options.precision, torch.device(options.device))
    try:
        choose_backend(torch.device(options.device), arguments.backend)
    except (BackendError, ValueError) as error:
        raise UserError(f"--backend {arguments.backend}: {error}") from error
    if arguments.search != "torch":
        gpus_for(import_faiss(), arguments.search, arguments.search_device)
    elif arguments.search_device != "auto":
        raise UserError("--search-device: is of faiss; --search torch searches where --device says")


def _check_folders(arguments: argparse.Namespace) -> None:
    if arguments.save_embeddings:
        check_save_directory(arguments.save_embeddings)
        check_replaceable(arguments.save_embeddings, "--save-embeddings")
    for option in ("index", "save_run"):
        if getattr(arguments, option):
            check_writable(getattr(arguments, option), f"--{option.replace('_', '-')}")


def _download(arguments: argparse.Namespace) -> None:
    if arguments.data_dir is None:
        raise UserError("--download: give --data-dir DIR or set HYBATCH_DATA_DIR, to say where to")
    Path(arguments.data_dir).mkdir(parents=True, exist_ok=True)
    download(TASKS[arguments.task], Path(arguments.data_dir), arguments.languages)
