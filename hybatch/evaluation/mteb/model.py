"""A saved encoder as `mteb` takes it: a SentenceTransformer with its prompts, under a name that its weights decide."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hybatch.errors import UserError
from hybatch.evaluation.mteb.sharing import share_encoding
from hybatch.models import Encoder
from hybatch.models.card import CARD
from hybatch.models.folder.finding import check_holds_model, finished_encoder, locate
from hybatch.models.folder.layout import read_layout
from hybatch.models.laser import holds_laser
from hybatch.models.named import hub_id, named_model

_SIDES = {"query": ("query",), "document": ("document", "passage")}


def find_model(run_path_or_hub_id: str) -> tuple[str, Path]:
    """What results call the encoder, and its folder; of a training run, those of its final model.

    Raises:
        UserError: there is no such model, the run has no final model yet, the folder holds none, LASER-2,
            or a model with offsets of languages.
    """
    folder = locate(run_path_or_hub_id)
    if holds_laser(folder):
        raise UserError(f"--model {folder}: LASER-2 is no SentenceTransformer, which mteb needs; use hybatch evaluate")
    if (finished := finished_encoder(folder, "--model")) != folder:
        folder, run_path_or_hub_id = finished, str(finished)
    layout = read_layout(folder)
    check_holds_model(layout.backbone_folder)
    if layout.offsets is not None:
        raise UserError(
            f"--model {folder}: its vectors are moved by the language of each text (hybatch debias), which mteb does "
            "not tell a model; take the model it was made of, or debias that with --method lir, which needs no language"
        )
    return run_path_or_hub_id, folder


def settle_prompts(model: str, folder: Path, *, query: str | None, passage: str | None) -> dict[str, str]:
    """The prompts that `mteb` asks for: those given, else the folder's own, else a published model's habit.

    A task of mteb that has two sides asks for `query` and `document`; saved under `passage` alone, the latter would
    be left out in silence. A model of one's own that names no prompts was perhaps trained with some, so nothing is
    guessed.

    Args:
        model: the path, hub id or short name that tells a published model.

    Returns:
        {"query": text, "document": text} and the folder's prompts of single tasks.

    Raises:
        UserError: nothing says what a side's prompt is.
    """
    saved = read_layout(folder).prompts
    # sentence-transformers writes an empty `document` of its own accord: a text under `passage` goes before it.
    own: dict[str, str | None] = {
        side: max((saved[name] for name in names if name in saved), key=bool, default=None)
        for side, names in _SIDES.items()
    }
    if named := named_model(model):
        # As in `hybatch evaluate`: an empty prompt in a folder is no word against a published habit.
        own["query"] = own["query"] or named.query_prefix or ""
        own["document"] = own["document"] or named.passage_prefix or ""
    own |= {side: text for side, text in (("query", query), ("document", passage)) if text is not None}
    options = {"query": "--query-prompt TEXT", "document": "--passage-prompt TEXT"}
    if lacking := [side for side, text in own.items() if text is None]:
        raise UserError(
            f"--model {folder}: config_sentence_transformers.json names no prompt for {' and '.join(lacking)}; "
            f"say what it was trained with: {' '.join(options[side] for side in lacking)}, or '' for nothing"
        )
    others = {name: text for name, text in saved.items() if name not in ("query", "document", "passage")}
    return others | {side: text for side, text in own.items() if text is not None}


def load_model(model_name: str, folder: Path, prompts: Mapping[str, str], *, device: str) -> Any:
    """The encoder in mteb's wrapper.

    Its revision is a digest of its files and prompts, so that mteb never takes another model's results for its own.
    Tasks whose texts have no sides (bitext mining, similarity, clustering) are encoded as queries, as `hybatch
    evaluate` does for Tatoeba.
    """
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    if read_layout(folder).pooling is None:
        # A plain backbone: sentence-transformers would take the mean whatever the model is used to.
        with tempfile.TemporaryDirectory() as scratch:
            Encoder.load(model_name).save(Path(scratch) / "encoder")
            model = SentenceTransformer(str(Path(scratch) / "encoder"), device=device)
    else:
        model = SentenceTransformer(str(folder), device=device)
    model.prompts = dict(prompts)
    model.default_prompt_name = "query"
    share_encoding(model)
    wrapped = SentenceTransformerEncoderWrapper(model)
    identity = {"name": _two_part_name(model_name, folder), "revision": _digest(folder, prompts)}
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update=identity)
    return wrapped


def _two_part_name(model_name: str, folder: Path) -> str:
    """An "organisation/model" as mteb wants it: a hub id, or the last two parts of the folder's path."""
    name = hub_id(model_name)
    return name if not Path(model_name).exists() and name.count("/") == 1 else "/".join(folder.resolve().parts[-2:])


def _digest(folder: Path, prompts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(prompts), sort_keys=True).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] in (CARD, "figures"):
            continue  # `hybatch card` writes them, and no vector depends on them
        digest.update(str(name).encode())
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
