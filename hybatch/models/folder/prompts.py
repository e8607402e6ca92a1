"""The prompts that a folder in sentence-transformers' layout puts before texts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from hybatch.errors import UserError
from hybatch.models.folder.json_files import read_object
from hybatch.paths import expand_path

PROMPTS = "config_sentence_transformers.json"
_OWN = ("query", "passage", "document")


def read_prompts(folder: Path) -> dict[str, str]:
    """Name -> text; empty where the folder says nothing of prompts.

    Raises:
        UserError: the file is malformed.
    """
    path = folder / PROMPTS
    if not path.is_file():
        return {}
    prompts = read_object(path).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise UserError(f"{path}: prompts is not an object of texts; restore the file")
    return {name: text or "" for name, text in prompts.items()}


def query_prompt(prompts: dict[str, str]) -> str | None:
    """What stands before a query; None where the folder does not say.

    An empty prompt says that there is none if that of the other side is not empty. Two empty ones say nothing:
    sentence-transformers writes them for a model without.
    """
    return _said(prompts, ("query",), beside=("document", "passage"))


def passage_prompt(prompts: dict[str, str]) -> str | None:
    """What stands before a passage, likewise."""
    return _said(prompts, ("document", "passage"), beside=("query",))


def _said(prompts: dict[str, str], names: tuple[str, ...], *, beside: tuple[str, ...]) -> str | None:
    own = [prompts[name] for name in names if name in prompts]
    other_says = any(prompts.get(name) for name in beside)
    return next(filter(None, own), "" if own and other_says else None)


def names_of(name: str) -> dict[Literal["query", "passage"], str]:
    """Under which names a folder keeps what stands before the queries and the passages of a data set, by role."""
    return {"query": f"{name}.query", "passage": f"{name}.passage"}


def further_prompts(prompts: dict[str, str]) -> dict[str, str]:
    """Those beside the model's own."""
    return {name: text for name, text in prompts.items() if name not in _OWN}


def prompts_of(path_or_hub_id: str) -> dict[str, str]:
    """The prompts of a model before it is fetched: of a folder here, or of the one file on the hub.

    Whoever cannot reach the hub, and has the model in its cache, has this file there too if there is one.

    Raises:
        UserError: the file is malformed.
    """
    try:
        folder = Path(expand_path(path_or_hub_id, "model"))
    except UserError:
        return {}  # a variable that is not set is told where the model is looked for
    if folder.is_dir():
        return read_prompts(folder)
    try:
        return read_prompts(Path(hf_hub_download(path_or_hub_id, PROMPTS)).parent)
    except (HfHubHTTPError, HFValidationError, OSError):
        return {}
