"""Which files of a folder are an encoder's, so that nothing else is handed on with it."""

from __future__ import annotations

import re
from pathlib import Path

from hybatch.errors import UserError
from hybatch.models.backbone.reading import is_whole
from hybatch.models.folder.finding import check_holds_model
from hybatch.models.folder.json_files import read_object
from hybatch.models.folder.layout import read_layout
from hybatch.models.lora.updates import ADAPTER_FOLDER

_INDEX = "model.safetensors.index.json"
_BACKBONE = (
    r"(generation_)?config\.json|(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)"
    r"|(pytorch_)?model\.(safetensors|bin)\.index\.json|sentence_\w+_config\.json"
    r"|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|chat_template\.jinja"
    r"|vocab\.(txt|json)|merges\.txt|tokenizer\.model|sentencepiece\.bpe\.model|sp(m|iece)\.model"
)
# What readers of the folder go by.
_READ = re.compile(
    rf"(0_Transformer/)?({_BACKBONE})|modules\.json|config_sentence_transformers\.json"
    r"|\d+_\w+/(config\.json|model\.safetensors|pytorch_model\.bin)"
    rf"|({ADAPTER_FOLDER}/)?(adapter_config\.json|adapter_model\.(safetensors|bin))"
    r"|hybatch\.json|debias\.json|debias_texts\.npy"
)
_FOR_PEOPLE = re.compile(r"README\.md|figures/[\w.+-]+\.(png|svg)|LICEN[CS]E(\.\w+)?|NOTICE(\.\w+)?|\.gitattributes")


def encoder_files(folder: Path) -> list[Path]:
    """The files of a saved encoder, relative to its folder, in alphabetical order.

    Raises:
        UserError: the folder holds no encoder, weights of it are missing or damaged, or files that are not its own.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; give a training run's, or a saved encoder's")
    backbone = read_layout(folder).backbone_folder
    check_holds_model(backbone)
    _check_weights(backbone)
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    own = (_READ, _FOR_PEOPLE)
    foreign = [str(path) for path in found if not any(kind.fullmatch(path.as_posix()) for kind in own)]
    if foreign:
        named = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise UserError(f"{folder}: holds what is no file of an encoder: {named}; move it away, so that it stays here")
    return found


def is_read(name: str) -> bool:
    """Whether an encoder's vectors may depend on a file of this name, relative to its folder."""
    return _READ.fullmatch(name) is not None


def _check_weights(backbone: Path) -> None:
    """Refuse weights of which a part is missing or cut short: the headers are read, not the numbers."""
    if (index := backbone / _INDEX).is_file():
        parts = read_object(index).get("weight_map")
        names = sorted(set(parts.values())) if isinstance(parts, dict) else []
        if lacking := [name for name in names if not (backbone / str(name)).is_file()]:
            raise UserError(f"{backbone}: {', '.join(lacking)} of {_INDEX} is missing; save the encoder again")
    if damaged := [path.name for path in sorted(backbone.glob("*.safetensors")) if not is_whole(path)]:
        raise UserError(
            f"{backbone}: {', '.join(damaged)} cannot be read, truncated or damaged; save the encoder again"
        )
