"""Reading checkpoints of DeepSpeed and FSDP2 without running code that somebody planted in them.

Both hold pickles, and a pickle may name any function to be called as it is read. What hybatch's own checkpoints name is
known and short; whatever else a file names is refused before it is looked up.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from hybatch.errors import UserError

_FORCED = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_PREVENTED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_METADATA = ".metadata"
_CHECKPOINT = "torch.distributed.checkpoint"
_KNOWN_TO_FSDP = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    *((module, path) for module in ("pathlib", "pathlib._local") for path in ("PosixPath", "PurePosixPath")),
    (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
    *(
        (f"{_CHECKPOINT}.metadata", name)
        for name in (
            *("Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "BytesStorageMetadata"),
            *("ChunkStorageMetadata", "TensorProperties", "_MEM_FORMAT_ENCODING"),
        )
    ),
}

_MEMBER = ("builtins", "getattr")
"""What early releases of Python 3.11, Debian 12's for one, name for a member of an enumeration."""


@contextmanager
def tensors_only(directory: Path) -> Iterator[None]:
    """Within it every `torch.load`, DeepSpeed's own too, reads tensors, plain values and what ZeRO keeps beside them.

    Args:
        directory: whose files are read, for the message.

    Raises:
        UserError: a file names anything else.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCED, _PREVENTED)}
    os.environ[_FORCED] = "1"
    try:
        with torch.serialization.safe_globals(_kept_by_zero()):
            yield
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        why = named or re.search(r"Unpickler error:\s+(.+)", str(error))
        reason = f"it names {named[1]}" if named else why[1] if why else str(error).splitlines()[0]
        raise UserError(_refusal(directory, reason)) from error
    finally:
        del os.environ[_FORCED]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def check_shards(directory: Path) -> None:
    """Check what torch will unpickle of a folder of shards; the shards themselves it reads as tensors only.

    Raises:
        UserError: the list of shards is missing or damaged, or names what no checkpoint of FSDP2 does.
    """
    path = directory / _METADATA
    try:
        with open(path, "rb") as file:
            _Known(file).load()
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error))) from error
    except (OSError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


class _Known(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _MEMBER:
            return _member_of
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and (module, name) not in _KNOWN_TO_FSDP:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _kept_by_zero() -> list[Any]:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    return [LossScaler, ZeroStageEnum, fragment_address, (_member_of, ".".join(_MEMBER))]


def _member_of(kind: Any, name: Any) -> Enum:
    """What `getattr` is in a checkpoint, and nothing else that it might be.

    Raises:
        pickle.UnpicklingError: it is asked for anything but a member of an enumeration.
    """
    if not (isinstance(kind, type) and issubclass(kind, Enum) and isinstance(name, str) and name in kind.__members__):
        raise pickle.UnpicklingError(f"it names {'.'.join(_MEMBER)} of what is no enumeration")
    return kind.__members__[name]


def _refusal(path: Path, reason: str) -> str:
    return f"{path} holds what no checkpoint of hybatch does, and may be code that somebody planted there: {reason}"
