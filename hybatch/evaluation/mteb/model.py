"""A saved encoder as `mteb` takes it: a SentenceTransformer with its prompts, under a name that its weights decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.models.folders import check_holds_model, locate
from hybatch.models.layout import read_layout

_RUN_FILE = "config.yaml"


def find_model(run_path_or_hub_id: str) -> Path:
    """The folder of a saved encoder; of a training run, its final model.

    Raises:
        UserError: there is no such model, the run has no final model yet, or the folder holds none.
    """
    folder = locate(run_path_or_hub_id)
    if (folder / _RUN_FILE).is_file() and not (folder / "config.json").is_file():
        if not (folder / "final").is_dir():
            raise UserError(f"--model {folder}: a training run without a final model; finish it, or give {folder}/best")
        folder = folder / "final"
    check_holds_model(read_layout(folder).backbone_folder)
    return folder


def settle_prompts(folder: Path, *, query: str | None, passage: str | None) -> dict[str, str]:
    """The prompts that `mteb` asks for: the folder's own, but for those given.

    A task of mteb that has two sides asks for `query` and `document`; saved under `passage` alone, the latter would
    be left out in silence. A model that names no prompts was perhaps trained with some, so nothing is guessed.

    Returns:
        {"query": text, "document": text} and the folder's prompts of single tasks.

    Raises:
        UserError: the folder names no prompt of a side, and none is given.
    """
    saved = read_layout(folder).prompts
    own = {
        "query": saved.get("query") if query is None else query,
        "document": saved.get("document") or saved.get("passage", saved.get("document"))
        if passage is None
        else passage,
    }
    options = {"query": "--query-prompt TEXT", "document": "--passage-prompt TEXT"}
    if lacking := [side for side, text in own.items() if text is None]:
        raise UserError(
            f"--model {folder}: config_sentence_transformers.json names no prompt for {' and '.join(lacking)}; "
            f"say what it was trained with: {' '.join(options[side] for side in lacking)}, or '' for nothing"
        )
    others = {name: text for name, text in saved.items() if name not in ("query", "document", "passage")}
    return others | {side: text for side, text in own.items() if text is not None}


def load_model(folder: Path, prompts: Mapping[str, str], *, name: str, device: str) -> Any:
    """The encoder in mteb's wrapper.

    Its revision is a digest of its files and prompts, so that mteb never takes another model's results for its own.
    Tasks whose texts have no sides (bitext mining, similarity, clustering) are encoded as queries, as `hybatch
    evaluate` does for Tatoeba.
    """
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=device)
    model.prompts = dict(prompts)
    model.default_prompt_name = "query"
    wrapped = SentenceTransformerEncoderWrapper(model)
    identity = {"name": name, "revision": _digest(folder, prompts)}
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update=identity)
    return wrapped


def name_of(folder: Path, given: str) -> str:
    """An "organisation/model" as mteb wants it: a hub id, or the last two parts of the folder's path."""
    if not Path(given).exists() and given.count("/") == 1:
        return given
    return "/".join(folder.resolve().parts[-2:]).lstrip("/")


def _digest(folder: Path, prompts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(prompts), sort_keys=True).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
