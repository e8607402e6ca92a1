"""LASER-2's published files: laser2.pt (weights, shape, vocabulary), laser2.spm and laser2.cvocab.

The weights' file holds `params` (the network's shape), `model` (its state dict) and `dictionary` (piece to id). The
dictionary of the weights decides, as in the publisher's code; the cvocab, the same list as fairseq writes it, is read
where the weights have none.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hybatch.errors import UserError
from hybatch.models.laser.network import LaserNetwork
from hybatch.models.laser.tokenizer import LaserTokenizer

WEIGHTS, PIECES, VOCABULARY = "laser2.pt", "laser2.spm", "laser2.cvocab"
_ADDRESS = "https://dl.fbaipublicfiles.com/nllb/laser/"
_SHAPE = ("num_embeddings", "padding_idx", "embed_dim", "hidden_size", "num_layers", "bidirectional")
# They say how the publisher pads a batch; the vectors do not depend on it.
_PADDING = ("left_pad", "padding_value")
# fairseq's vocabularies begin with four special pieces, which their files do not list.
_FIRST_ID = 4
_SHOWN = 4


def holds_laser(folder: Path) -> bool:
    """Whether any of LASER-2's files is there."""
    return any((folder / name).is_file() for name in (WEIGHTS, PIECES, VOCABULARY))


def read_laser(folder: Path) -> tuple[LaserNetwork, LaserTokenizer]:
    """Read network (fp32) and tokenizer.

    Raises:
        UserError: a file is missing or malformed, the weights are of another architecture, or sacremoses is not there.
    """
    missing = [name for name in (WEIGHTS, PIECES) if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder}: LASER-2 lacks {' and '.join(missing)}; fetch what is missing from {_ADDRESS}")
    saved = _read_weights(folder / WEIGHTS)
    network = _network(saved, folder / WEIGHTS)
    ids = saved["dictionary"] if "dictionary" in saved else _read_vocabulary(folder / VOCABULARY)
    rows = network.embed_tokens.num_embeddings
    if not isinstance(ids, Mapping) or (ids and not 0 <= min(ids.values()) <= max(ids.values()) < rows):
        source = folder / (WEIGHTS if "dictionary" in saved else VOCABULARY)
        raise UserError(f"{source}: the vocabulary's ids do not fit the {rows:,} token embeddings of {WEIGHTS}")
    return network, LaserTokenizer(folder / PIECES, cast(Mapping[str, int], ids))


def _read_weights(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path}: cannot be read ({reason[0]}); fetch it again from {_ADDRESS}") from error
    if not isinstance(saved, dict) or not {"params", "model"} <= saved.keys():
        keys = sorted(map(str, saved))[:_SHOWN] if isinstance(saved, dict) else [type(saved).__name__]
        laser3 = "; this is how LASER-3's transformers look, which are not supported" if "cfg" in keys else ""
        raise UserError(f"{path}: is not LASER-2, it has {', '.join(keys)} in place of params and model{laser3}")
    return saved


def _network(saved: Mapping[str, Any], path: Path) -> LaserNetwork:
    params, weights = saved["params"], saved["model"]
    if unknown := sorted(set(params) - {*_SHAPE, *_PADDING}):
        raise UserError(f"{path}: is not LASER-2, its params have {', '.join(unknown)}")
    try:
        network = LaserNetwork(**{name: params[name] for name in _SHAPE if name in params})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(f"{path}: its params describe no network ({error})") from error
    if differences := _differences(network.state_dict(), weights):
        raise UserError(f"{path}: weights of another architecture than its params: {'; '.join(differences)}")
    network.load_state_dict(weights)
    return network


def _differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Which keys are missing, which too many, which of another shape."""
    shapes = [
        f"{name} is {list(found[name].shape)} and not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return [
        *_named("lacks", sorted(expected.keys() - found.keys())),
        *_named("has besides", sorted(found.keys() - expected.keys())),
        *shapes[:_SHOWN],
    ]


def _named(what: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return [f"{what} {', '.join(keys[:_SHOWN])}{more}"] if keys else []


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Read fairseq's list: a piece and its count on each line, ids in order."""
    if not path.is_file():
        raise UserError(f"{path}: is missing, and {WEIGHTS} holds no dictionary; fetch it from {_ADDRESS}")
    ids: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        piece, _, count = line.rpartition(" ")
        if not piece or not count.isdigit():
            raise UserError(f"{path}, line {number}: is not a piece and its count: {line[:60]!r}")
        ids[piece] = _FIRST_ID + number - 1
    return ids
