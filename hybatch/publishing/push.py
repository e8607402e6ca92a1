"""`hybatch push`: send a finished encoder to a repository of the Hugging Face hub."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from hybatch.errors import UserError
from hybatch.models.card import base_model
from hybatch.models.folder.debiased import RECORD
from hybatch.models.folder.finding import finished_encoder
from hybatch.models.folder.json_files import read_json
from hybatch.models.folder.layout import OWN_FILE
from hybatch.models.lora.updates import ADAPTER_FOLDER
from hybatch.paths import path_of
from hybatch.publishing.encoder_files import encoder_files, is_read
from hybatch.version import __version__

SUMMARY = "send a finished encoder to a repository of the Hugging Face hub"
# Files that name the model an encoder was made of as the user gave it, perhaps by a path of this machine, and the keys.
_NAMING = (OWN_FILE, RECORD, f"{ADAPTER_FOLDER}/adapter_config.json", "adapter_config.json")
_NAMES = ("backbone", "model", "base_model_name_or_path")


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What is sent, and where to.

    Attributes:
        files: path in the repository -> the file here, or the bytes that are sent in its place.
        private: whether the repository is for its owner alone.
    """

    files: dict[str, Path | bytes]
    repository: str
    private: bool

    @property
    def message(self) -> str:
        """Of the commit."""
        return f"Upload an encoder with hybatch {__version__}"

    def size(self, name: str) -> int:
        """Bytes."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def main(argv: Sequence[str]) -> int:
    """Run `hybatch push` and return its exit code.

    Raises:
        UserError: the folder is not one encoder and nothing else, the repository's name or visibility does not do,
            there is no token, or the hub cannot be reached or refuses.
    """
    arguments = _parser().parse_args(argv)
    shipment = pack(arguments.model, arguments.to, private=not arguments.public)
    print(describe(shipment))
    if arguments.dry_run:
        print("nothing was sent (--dry-run)")
        return 0
    print(f"sent: {send(shipment, _api())}")
    return 0


def pack(run_or_folder: Path, repository: str, *, private: bool) -> Shipment:
    """Everything that would be sent; asks nobody.

    Raises:
        UserError: see `main`.
    """
    _check_name(repository)
    folder = finished_encoder(run_or_folder, "RUN_OR_FOLDER")
    files: dict[str, Path | bytes] = {path.as_posix(): folder / path for path in encoder_files(folder)}
    for name in _NAMING:
        if name in files:
            content = without_paths(read_json(folder / name))
            files[name] = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    return Shipment(files=files, repository=repository, private=private)


def without_paths(content: Any) -> Any:
    """A JSON value in which models are named by their hub ids or the last parts of their paths.

    Such names are for people: no vector depends on them once an encoder is saved.
    """
    if not isinstance(content, dict):
        return content
    return {key: _short(part) if key in _NAMES else without_paths(part) for key, part in content.items()}


def _short(model: Any) -> Any:
    if not isinstance(model, str):
        return model
    base = base_model(model)
    return base.hub_id or base.name


def describe(shipment: Shipment) -> str:
    """What is sent where, a line each."""
    width = max(map(len, shipment.files))
    lines = [f"  {name:<{width}}  {shipment.size(name):>15,}" for name in shipment.files]
    total = sum(map(shipment.size, shipment.files))
    audience = "private" if shipment.private else "PUBLIC: everyone can read and copy it"
    return "\n".join(
        [
            f"to https://huggingface.co/{shipment.repository} ({audience})",
            f'as "{shipment.message}"',
            *lines,
            f"  {len(lines)} files, {total:,} bytes",
        ]
    )


def send(shipment: Shipment, api: HfApi) -> str:
    """Make the repository where it is missing, and upload; what has arrived of an upload cut short is not sent again.

    Files of an encoder that was there before go with the same commit where the new one has none of their name: weights
    cut into other files, a record of debiasing, an adapter's configuration would be read beside it.

    Returns:
        the commit's address.

    Raises:
        UserError: the repository's visibility is not the one asked for, it leaves files out, or the hub cannot be
            reached or refuses.
    """
    try:
        _check_visibility(shipment, api)
        api.create_repo(shipment.repository, private=shipment.private, repo_type="model", exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="hybatch-push-") as staged:
            _stage(shipment, Path(staged))
            commit = api.upload_folder(
                repo_id=shipment.repository,
                repo_type="model",
                folder_path=staged,
                commit_message=shipment.message,
                delete_patterns=_stale(shipment, api) or None,
            )
        _check_arrived(shipment, api)
    except UserError:
        raise
    except Exception as error:  # the client raises many kinds, of the network, the hub's answers and the card alike
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"--to {shipment.repository}: could not be sent ({reason}); mend that, or try again: the same command goes "
            "on where it stopped"
        ) from error
    return str(commit.commit_url)


def _check_arrived(shipment: Shipment, api: HfApi) -> None:
    """The client passes over what a .gitignore of the repository names, and tells nobody."""
    arrived = set(api.list_repo_files(shipment.repository))
    if left_out := [name for name in shipment.files if name not in arrived]:
        raise UserError(
            f"--to {shipment.repository}: {', '.join(left_out)} did not arrive, the rest did: take what names them out "
            "of the .gitignore of the repository, and push again"
        )


def _stale(shipment: Shipment, api: HfApi) -> list[str]:
    """Files of an encoder in the repository that would be read beside the new one's; no name has a wildcard."""
    return [name for name in api.list_repo_files(shipment.repository) if is_read(name) and name not in shipment.files]


def _stage(shipment: Shipment, folder: Path) -> None:
    """A folder of links to the files, and of what takes a file's place."""
    for name, content in shipment.files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        else:
            os.symlink(content.resolve(), place)


def _check_visibility(shipment: Shipment, api: HfApi) -> None:
    """A repository that is there keeps its visibility: nothing private goes into a public one unasked."""
    try:
        is_private = bool(api.model_info(shipment.repository).private)
    except RepositoryNotFoundError:
        return
    if is_private != shipment.private:
        mend = "name another, or change it on the hub" if is_private else "give --public to send it there"
        raise UserError(
            f"--to {shipment.repository}: is there, and {'private' if is_private else 'PUBLIC'}; {mend}"
            + (", or leave --public out" if is_private else ", or name another")
        )


def _check_name(repository: str) -> None:
    mend = "give OWNER/NAME, the owner being your user or organisation on the hub"
    if repository.count("/") != 1:
        raise UserError(f"--to {repository!r}: names no owner; {mend}")
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--to {repository!r}: {' '.join(str(error).split())}; {mend}") from error


def _api() -> HfApi:
    if get_token() is None:
        raise UserError(
            "hybatch push: there is no token of the hub here; log in with `hf auth login`, or set HF_TOKEN to a token "
            "that may write (https://huggingface.co/settings/tokens)"
        )
    return HfApi(library_name="hybatch", library_version=__version__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hybatch push", description=SUMMARY[0].upper() + SUMMARY[1:] + ".")
    parser.add_argument(
        "model",
        type=path_of("RUN_OR_FOLDER"),
        metavar="RUN_OR_FOLDER",
        help="a training run's folder, whose final encoder is sent, or a saved encoder's",
    )
    parser.add_argument("--to", required=True, metavar="OWNER/NAME", help="the repository; made where it is missing")
    parser.add_argument("--public", action="store_true", help="let everyone read it (default: private)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    return parser
