"""A backbone and its tokenizer, read from a folder; what is wrong with a folder that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from hybatch.errors import UserError
from hybatch.models.attention import turned
from hybatch.models.backbone.building import (
    BUILD_ERRORS,
    auto_class,
    build_backbone,
    dropouts,
    first_line,
    quiet_transformers,
)
from hybatch.models.config import AttentionDirection
from hybatch.models.named import without_its_code
from hybatch.models.tokenization import end_texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def read_config(folder: Path, *, attention: AttentionDirection | None = None) -> PretrainedConfig:
    """Read the configuration of a backbone.

    Args:
        attention: in the place of the configuration's own.

    Raises:
        UserError: it cannot be read, or its attention does not turn.
    """
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except (*BUILD_ERRORS, OSError) as error:
            raise _cannot_be_read(folder, "backbone", error) from error
    if hasattr(config, "use_cache"):
        config.use_cache = False
    return config if attention is None else turned(config, attention)


def read_backbone(
    folder: Path,
    attn_implementation: str | None,
    *,
    dropout: float | None = None,
    attention: AttentionDirection | None = None,
) -> tuple[PreTrainedModel, set[str]]:
    """Read a backbone in fp32, whatever type its file has.

    Args:
        dropout: in the place of every dropout that its configuration names.
        attention: in the place of its configuration's own.

    Returns:
        The backbone, and the names of its parameters that the folder does not hold (they are random).

    Raises:
        UserError: the folder's configuration or weights cannot be read, or fit no text encoder.
    """
    implementation = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    config = read_config(folder, attention=attention)
    if dropout is not None:
        config.update(dropouts(config, dropout))
    with quiet_transformers():
        try:
            backbone, info = auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, where they have names
                trust_remote_code=False,
                **implementation,
            )
        except (*BUILD_ERRORS, OSError, SafetensorError, EOFError, UnpicklingError) as error:
            raise _cannot_be_read(folder, "backbone", error) from error
    for name, found, wanted in sorted(info.get("mismatched_keys", ()))[:1]:
        raise UserError(
            f"{folder}: the weights are of another shape than config.json says: {name} is {list(found)}, not "
            f"{list(wanted)}; restore the files"
        )
    check_finite(backbone, folder)
    return backbone, set(info["missing_keys"])


def unread_backbone(folder: Path) -> PreTrainedModel:
    """The backbone that a folder's configuration describes, without its weights; within a FakeTensorMode it is cheap.

    Raises:
        UserError: the configuration cannot be read, or fits no text encoder.
    """
    with quiet_transformers():
        try:
            return build_backbone(AutoConfig.from_pretrained(folder, trust_remote_code=False), None)
        except (*BUILD_ERRORS, OSError) as error:
            raise _cannot_be_read(folder, "backbone", error) from error


def check_finite(module: nn.Module, folder: Path) -> None:
    """Check weights that were read, which one bit can spoil.

    Raises:
        UserError: names the folder and the first parameter with a value that is not finite.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{folder}: the weights hold values that are not finite, first in {name}; restore the file")


def settle_vocabulary(tokenizer: PreTrainedTokenizerBase, backbone: PreTrainedModel, folder: Path) -> None:
    """See to it that every token a text can have has a row in the backbone's table of them.

    Tokens that were added to a tokenizer, whose backbone was not given rows for them, end a run at the first text that
    has one; on a GPU without a word of why. A padding token of that kind is another matter: no vector depends on which
    it is, so that the end token takes its place. Special tokens that no template puts into a text may be beyond the
    table, as those of images are in Gemma's.

    Raises:
        UserError: names such a token.
    """
    rows = backbone.config.vocab_size
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if not beyond:
        return
    if tokenizer.pad_token_id in beyond and tokenizer.eos_token_id not in (None, *beyond):
        tokenizer.pad_token = tokenizer.eos_token
    always = {*tokenizer("")["input_ids"], tokenizer.pad_token_id}
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    added = [number for number in sorted(beyond) if number in always or number not in special]
    if added:
        raise UserError(
            f"{folder}: its tokenizer has the token {beyond[added[0]]!r} with the number {added[0]}, its backbone has "
            f"rows for {rows} tokens: they do not belong together, or tokens were added without "
            "resize_token_embeddings; take the tokenizer that came with the weights, or resize the backbone and save it"
        )


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read a folder's tokenizer.

    Padding is put on the right, where no architecture's positions depend on it.

    Raises:
        UserError: it cannot be read, or has no padding token.
    """
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # the tokenizers' Rust library raises Exception itself
            raise _cannot_be_read(folder, "tokenizer", error) from error
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if _wants_own_class(settings):
        raise _needs_code(folder, "tokenizer")
    end_texts(tokenizer, settings)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(f"{folder}: the tokenizer has neither a padding nor an end token to pad with")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def _cannot_be_read(folder: Path, part: str, error: BaseException) -> UserError:
    """Say what is wrong with a folder, and which of its files it is where the libraries do not tell."""
    if "trust_remote_code" in str(error):
        return _needs_code(folder, part)
    if isinstance(error, UnpicklingError | EOFError):
        names = ", ".join(path.name for path in sorted(folder.glob("*.bin")))
        return UserError(f"{folder}: {names or 'the weights'} cannot be read, truncated or damaged; restore the file")
    if isinstance(error, SafetensorError):
        files = [path.name for path in sorted(folder.glob("*.safetensors")) if not is_whole(path)]
        return UserError(
            f"{folder}: {', '.join(files) or 'the weights'} cannot be read, truncated or damaged ({error})"
        )
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        if (folder / name).is_file() and not _is_json_object(folder / name):
            return UserError(f"{folder / name}: is not a JSON object; restore the file")
    return UserError(f"{folder}: the {part} cannot be read: {first_line(error)}")


def _needs_code(folder: Path, part: str) -> UserError:
    advice = without_its_code(_code_repository(folder) or "")
    return UserError(
        f"{folder}: its {part} needs code that comes with the model (auto_map in its configuration), and hybatch "
        f"runs no code of a model: {advice or 'use a model of an architecture that transformers has'}"
    )


def weights_lack(folder: Path, lost: set[str]) -> UserError:
    """Say that a folder's weights are not those of the backbone that its configuration was read as."""
    if _code_repository(folder) is not None:
        # transformers has an architecture of this name, and took it in the place of the model's own.
        return _needs_code(folder, "backbone")
    return UserError(f"{folder}: the weights lack {len(lost)} of the backbone's parameters, among them {min(lost)}")


def _code_repository(folder: Path) -> str | None:
    """The hub's repository of the backbone's own code ("" for the folder itself); None where it has no such code."""
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and _is_json_object(path) else {}
    auto_map = settings.get("auto_map")
    name = auto_map.get("AutoModel") if isinstance(auto_map, dict) else None
    return None if not isinstance(name, str) else name.rpartition("--")[0]


def _wants_own_class(settings: Mapping[str, Any]) -> bool:
    """Whether the tokenizer's class is the folder's own: transformers takes another in its place without a word."""
    name = settings.get("tokenizer_class")
    return "AutoTokenizer" in (settings.get("auto_map") or {}) and (
        not isinstance(name, str) or tokenizer_class_from_name(name) is None
    )


def is_whole(path: Path) -> bool:
    """Whether a safetensors file can be read, to its end."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except ValueError:
        return False
