"""sentence-transformers' folder layout, read and written; of its kin, what older releases wrote is read too."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.models.backbone.reading import check_finite
from hybatch.models.card import CARD
from hybatch.models.config import EncoderConfig, FreshBackboneConfig, PoolingMode
from hybatch.models.folder.debiased import Debiased, read_debiased
from hybatch.models.folder.json_files import read_json, read_object, write_json
from hybatch.models.folder.prompts import PROMPTS, read_prompts
from hybatch.models.head import Dense
from hybatch.models.language_offsets import LanguageOffsets, read_offsets, write_offsets
from hybatch.models.lora.config import LoraConfig
from hybatch.version import __version__

OWN_FILE = "hybatch.json"
_DIMENSIONS = "dimensions"
_POOLING: dict[str, PoolingMode] = {"cls": "cls", "mean": "mean", "lasttoken": "last", "max": "max"}
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_OLD_TRANSFORMER_FILES = "sentence_*_config.json"
# The names of releases before 6; later ones know them too.
_MODULE_TYPE = "sentence_transformers.models."
_OFFSETS = LanguageOffsets.__name__


@dataclass(kw_only=True)
class Layout:
    """What a folder says beside its backbone; every field is empty for a folder of plain transformers."""

    backbone_folder: Path
    """Where config.json, weights and tokenizer are."""
    pooling: PoolingMode | None = None
    head: list[Dense] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    query_max_length: int | None = None
    passage_max_length: int | None = None
    lowercase: bool = False
    offsets: LanguageOffsets | None = None
    """Of an encoder whose vectors are moved by the language of a text."""
    debiased: Debiased | None = None
    """How language bias was taken out of it, where it was."""
    config: EncoderConfig | None = None
    """The configuration that hybatch saved with the model."""
    card: str | None = None
    """The README.md beside it."""
    dimensions: tuple[int, ...] = ()
    """How many leading dimensions of its vectors are trained to be vectors themselves, all of them first."""


def read_layout(folder: Path) -> Layout:
    """Read everything but the backbone and the tokenizer.

    Raises:
        UserError: a file is malformed, or the folder has a module or a setting that this encoder does not have.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return Layout(backbone_folder=folder)
    listed = read_json(modules_file)
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise UserError(f"{modules_file}: is not a JSON list of modules; restore the file")
    modules = [(_kind(module), folder / str(module.get("path", ""))) for module in listed]
    kinds = [kind for kind, _ in modules if kind != "Dropout"]
    dense = kinds.count("Dense")
    tails: tuple[list[str], ...] = ([], ["Normalize"], ["Normalize", _OFFSETS])
    if kinds not in (["Transformer", "Pooling"] + ["Dense"] * dense + tail for tail in tails):
        raise UserError(
            f"{modules_file}: has the modules {', '.join(kinds)}; "
            "only Transformer, Pooling, any number of Dense, Normalize, and hybatch's LanguageOffsets, in this order, "
            "are supported"
        )
    paths = {kind: path for kind, path in modules if kind != "Dense"}
    layout = Layout(
        backbone_folder=paths["Transformer"],
        pooling=_read_pooling(paths["Pooling"] / "config.json"),
        head=[read_dense(path) for kind, path in modules if kind == "Dense"],
        offsets=read_offsets(paths[_OFFSETS]) if _OFFSETS in paths else None,
        debiased=read_debiased(folder),
    )
    _read_transformer_settings(layout)
    layout.prompts = read_prompts(folder)
    if (folder / OWN_FILE).is_file():
        layout.config, layout.dimensions = _read_own(folder / OWN_FILE)
        # Whatever people wrote into it, in whatever encoding, it is written back as it was.
        card = folder / CARD
        layout.card = card.read_text(encoding="utf-8", errors="surrogateescape") if card.is_file() else None
    return layout


def _kind(module: dict[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _read_pooling(path: Path) -> PoolingMode:
    settings = read_object(path)
    modes = settings.get("pooling_mode")
    if modes is not None and not isinstance(modes, str | list):
        raise UserError(f"{path}: pooling_mode is {modes!r}; restore the file")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else list(map(str, modes))
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise UserError(f"{path}: pools by {' + '.join(modes)}; only one of {', '.join(_POOLING)} is supported")
    if not settings.get("include_prompt", True):
        raise UserError(f"{path}: include_prompt is false, leaving the prompt out of the pooling is not supported")
    return _POOLING[modes[0]]


def _read_transformer_settings(layout: Layout) -> None:
    for path in sorted(layout.backbone_folder.glob(_OLD_TRANSFORMER_FILES)):
        settings = read_object(path)
        longest, query, document = (
            _read_length(settings, key, path) for key in ("max_seq_length", "query_length", "document_length")
        )
        layout.query_max_length = query or longest
        layout.passage_max_length = document or longest
        layout.lowercase = bool(settings.get("do_lower_case"))


def _read_length(settings: dict[str, Any], key: str, path: Path) -> int | None:
    length = settings.get(key)
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 0):
        raise UserError(f"{path}: {key} is {length!r}; restore the file, or give a number of tokens")
    return length


def read_dense(folder: Path) -> Dense:
    """Read one dense layer with its activation.

    Raises:
        UserError: the layer's configuration or weights are missing, malformed or of a kind that is not supported.
    """
    path = folder / "config.json"
    settings = read_object(path)
    if settings.get("use_residual"):
        raise UserError(f"{path}: use_residual is not supported")
    if settings.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise UserError(f"{path}: a layer over {settings['module_input_name']!r} is not supported")
    name = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = getattr(nn, name.rpartition(".")[2], None) if name.startswith("torch.nn.") else None
    if activation is None:
        raise UserError(f"{path}: activation_function {name!r} is not one of torch.nn")
    try:
        bias = settings.get("bias", True)
        dense = Dense(settings["in_features"], settings["out_features"], bias=bias, activation=activation)
        dense.load_state_dict(_read_weights(folder))
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the layer cannot be made: {reason}") from error
    check_finite(dense, folder)
    return dense


def _read_weights(folder: Path) -> dict[str, Tensor]:
    for path in (folder / "model.safetensors", folder / "pytorch_model.bin"):
        if not path.is_file():
            continue
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(f"{path}: cannot be read, truncated or damaged ({error})") from error
    raise UserError(f"{folder}: holds no weights, model.safetensors is missing")


def _read_own(path: Path) -> tuple[EncoderConfig, tuple[int, ...]]:
    saved = read_object(path)
    try:
        options = dict(saved["encoder"])
        if isinstance(options.get("fresh"), dict):
            options["fresh"] = FreshBackboneConfig(**options["fresh"])
        if isinstance(options.get("lora"), dict):
            options["lora"] = LoraConfig(**options["lora"])
        return EncoderConfig(**options), tuple(map(int, saved.get(_DIMENSIONS, ())))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: was not written by a release like this one ({__version__}): {error}") from error


def write_layout(
    folder: Path,
    *,
    config: EncoderConfig,
    width: int,
    head: list[Dense],
    head_weights: list[dict[str, Tensor]],
    offsets: LanguageOffsets | None = None,
    prompts: Mapping[str, str] | None = None,
    dimensions: Sequence[int] = (),
) -> None:
    """Write everything but the backbone and the tokenizer into an existing folder.

    Args:
        folder: exists, and holds none of these files yet.
        config: with the pooling filled in.
        width: of the backbone's hidden states.
        head: layers behind the pooling, in order.
        head_weights: the weights of each, on any device.
        offsets: what moves the vectors by their language, if anything does.
        prompts: by name, beside the configuration's prefixes.
        dimensions: how many leading ones are trained to be a vector, all first; none where only all are.
    """
    assert config.pooling is not None
    names = ["", "1_Pooling", *(f"{2 + i}_Dense" for i in range(len(head))), f"{2 + len(head)}_Normalize"]
    kinds = ["Transformer", "Pooling", *["Dense"] * len(head), "Normalize"]
    modules = [
        {"idx": index, "name": str(index), "path": name, "type": _MODULE_TYPE + kind}
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]
    if offsets is not None:
        names.append(f"{len(names)}_{_OFFSETS}")
        type_ = f"{LanguageOffsets.__module__}.{_OFFSETS}"
        modules.append({"idx": len(modules), "name": str(len(modules)), "path": names[-1], "type": type_})
    for name in names[1:]:
        (folder / name).mkdir()
    write_json(folder / "modules.json", modules)
    mode = next(theirs for theirs, ours in _POOLING.items() if ours == config.pooling)
    pooling = {key: value == mode for key, value in _OLD_POOLING.items()}
    write_json(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **pooling, "include_prompt": True}
    )
    if offsets is not None:
        write_offsets(folder / names[-1], offsets.languages, offsets.state_dict())
    for name, dense, weights in zip(names[2 : 2 + len(head)], head, head_weights, strict=True):
        write_json(folder / name / "config.json", _dense_settings(dense))
        save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})
    lengths = {"max_seq_length": config.passage_max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", lengths)
    # sentence-transformers adds an empty prompt `document`, which its encode_document prefers to `passage`.
    own = {"query": config.query_prefix, "passage": config.passage_prefix, "document": config.passage_prefix}
    write_json(
        folder / PROMPTS,
        {"prompts": {**own, **(prompts or {})}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    nested = {_DIMENSIONS: list(dimensions)} if dimensions else {}
    write_json(folder / OWN_FILE, {"hybatch": __version__, "encoder": asdict(config), **nested})


def _dense_settings(dense: Dense) -> dict[str, Any]:
    activation = type(dense.activation)
    return {
        "in_features": dense.linear.in_features,
        "out_features": dense.linear.out_features,
        "bias": dense.linear.bias is not None,
        "activation_function": f"{activation.__module__}.{activation.__qualname__}",
    }
