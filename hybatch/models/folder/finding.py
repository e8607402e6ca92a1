"""Find a saved model: a folder here, or one fetched from the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from hybatch.errors import UserError
from hybatch.models.laser import holds_laser
from hybatch.models.named import hub_id, near_names, refuse_unreadable
from hybatch.paths import check_fetched, expand_path

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "spiece.model",
)
_SMALL_FILES = ["*.json", "*.txt", "*.model", "README.md"]
_RUN_FILE = "config.yaml"
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "*.h5", "*.msgpack", "*.onnx"]


def locate(path_or_hub_id: str) -> Path:
    """The folder that holds the model; a hub id, or the one behind a short name, is fetched into the hub's cache first.

    A folder here goes before a model of the same name.

    Raises:
        UserError: there is no such folder, and the hub knows no such model, has it with code of its own only, or cannot
            be reached.
    """
    folder = Path(expand_path(path_or_hub_id, "model"))
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{path_or_hub_id}: is a file; give the folder that holds the model")
    if path_or_hub_id.startswith((".", "/", "~")) or path_or_hub_id.count("/") > 1:
        raise UserError(f"{path_or_hub_id}: there is no such folder")
    refuse_unreadable(path_or_hub_id)
    try:
        return _fetch(hub_id(path_or_hub_id))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path_or_hub_id}: is no folder here, and could not be fetched from the hub ({reason}); "
            "check the name and the connection, or give the path of a folder that holds the model"
            + ("" if hub_id(path_or_hub_id) != path_or_hub_id else near_names(path_or_hub_id))
        ) from error


def _fetch(repository: str) -> Path:
    # Many repositories hold the weights two or three times over: older formats only where there is no safetensors.
    folder = Path(
        snapshot_download(repository, allow_patterns=[*_SMALL_FILES, "*.safetensors"], ignore_patterns=_OTHER_RUNTIMES)
    )
    has_weights = any(folder.glob("*.safetensors"))
    if not has_weights or any(not any(dense.glob("*.safetensors")) for dense in folder.glob("*_Dense")):
        wanted = "*.bin" if not has_weights else "*_Dense/*.bin"
        folder = Path(snapshot_download(repository, allow_patterns=[wanted], ignore_patterns=_OTHER_RUNTIMES))
    return folder


def finished_encoder(folder: Path, option: str) -> Path:
    """The folder itself, or of a training run's folder that of its final encoder.

    Args:
        option: what a message calls the place where the folder was given.

    Raises:
        UserError: the run has no final encoder yet.
    """
    if not (folder / _RUN_FILE).is_file() or (folder / "config.json").is_file():
        return folder
    if not (folder / "final").is_dir():
        raise UserError(f"{option} {folder}: a training run without a final model; finish it, or give {folder}/best")
    return folder / "final"


def check_holds_model(folder: Path) -> None:
    """Check that a folder holds a backbone in transformers' layout, which can be trained further.

    Raises:
        UserError: it does not; the message says what is missing, or was not fetched by Git LFS.
    """
    if holds_laser(folder):
        raise UserError(
            f"{folder}: holds LASER-2, which can be evaluated (hybatch evaluate --model) but not trained here"
        )
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        missing.append("weights (" + " or ".join(_WEIGHTS[::2]) + ")")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append("a tokenizer (tokenizer.json)")
    if missing and (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder}: is an adapter of peft, updates without the weights that they belong to: give the folder with "
            f"merged weights, {folder.parent} where training wrote it"
        )
    if missing:
        encoders = [str(folder / name) for name in ("best", "final") if (folder / name / "config.json").is_file()]
        mend = f"; it is the folder of a training run: give {' or '.join(encoders)}" if encoders else ""
        raise UserError(f"{folder}: holds no model, these are missing: {'; '.join(missing)}{mend}")
    check_fetched(next(folder / name for name in _TOKENIZERS if (folder / name).is_file()))
    weights = (sorted(folder.glob(pattern)) for pattern in ("model*.safetensors", "pytorch_model*.bin"))
    for path in next(filter(None, weights), []):
        check_fetched(path)
