"""The transformer under the encoder: read from a folder, or made fresh from a configuration."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.utils import logging as transformers_logging

from hybatch.errors import UserError
from hybatch.models.attention import turned
from hybatch.models.config import AttentionDirection, FreshBackboneConfig
from hybatch.models.named import without_its_code
from hybatch.models.tokenization import PAD_ID, end_texts

_INTERMEDIATE_NAMES = ("intermediate_size", "hidden_dim", "d_inner", "d_ff", "ffn_dim", "n_inner")
_DROPOUT_NAMES = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "hidden_dropout",
    "attention_dropout",
    "dropout",
    "dropout_rate",
    "embedding_dropout",
    "mlp_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
)
_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")
# What transformers and the classes under it raise for a configuration that they cannot build.
_BUILD_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    ImportError,
    ZeroDivisionError,
    StrictDataclassError,
)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back transformers' progress bars and remarks: what they would say is checked here instead."""
    verbosity = transformers_logging.get_verbosity()
    progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if progress:
            transformers_logging.enable_progress_bar()


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
        except (*_BUILD_ERRORS, OSError) as error:
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
            backbone, info = _auto_class(config).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, where they have names
                trust_remote_code=False,
                **implementation,
            )
        except (*_BUILD_ERRORS, OSError, SafetensorError) as error:
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
        except (*_BUILD_ERRORS, OSError) as error:
            raise _cannot_be_read(folder, "backbone", error) from error


def check_finite(module: nn.Module, folder: Path) -> None:
    """Check weights that were read, which one bit can spoil.

    Raises:
        UserError: names the folder and the first parameter with a value that is not finite.
    """
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise UserError(f"{folder}: the weights hold values that are not finite, first in {name}; restore the file")


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
    if isinstance(error, SafetensorError):
        files = [path.name for path in sorted(folder.glob("*.safetensors")) if not is_whole(path)]
        return UserError(
            f"{folder}: {', '.join(files) or 'the weights'} cannot be read, truncated or damaged ({error})"
        )
    for name in ("config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        if (folder / name).is_file() and not _is_json_object(folder / name):
            return UserError(f"{folder / name}: is not a JSON object; restore the file")
    return UserError(f"{folder}: the {part} cannot be read: {_first_line(error)}")


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


def fresh_config(
    fresh: FreshBackboneConfig,
    *,
    vocabulary_size: int,
    max_positions: int,
    attention: AttentionDirection | None = None,
) -> PretrainedConfig:
    """The architecture's own configuration with our settings.

    Raises:
        UserError: the architecture is unknown or refuses the settings, or its attention does not turn.
    """
    if fresh.architecture not in CONFIG_MAPPING:
        hint = _near(fresh.architecture, CONFIG_MAPPING)
        raise UserError(f"model.fresh.architecture {fresh.architecture!r} is unknown to transformers{hint}")
    with quiet_transformers():
        try:
            config = AutoConfig.for_model(
                fresh.architecture, **_settings(fresh, vocabulary_size=vocabulary_size, max_positions=max_positions)
            )
        except _BUILD_ERRORS as error:
            raise _cannot_be_built(fresh, error) from error
    return config if attention is None else turned(config, attention)


def fresh_backbone(
    fresh: FreshBackboneConfig,
    *,
    vocabulary_size: int,
    max_positions: int,
    attn_implementation: str | None,
    attention: AttentionDirection | None = None,
) -> PreTrainedModel:
    """Make a backbone with random weights from torch's default generator.

    Raises:
        UserError: the architecture is unknown or cannot be built with these settings, or its attention does not turn.
    """
    config = fresh_config(fresh, vocabulary_size=vocabulary_size, max_positions=max_positions, attention=attention)
    try:
        return build_backbone(config, attn_implementation)
    except _BUILD_ERRORS as error:
        raise _cannot_be_built(fresh, error) from error


def build_backbone(config: PretrainedConfig, attn_implementation: str | None) -> PreTrainedModel:
    """Make the backbone of a configuration in fp32, on the device and from the random numbers that are current."""
    implementation = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    with quiet_transformers():
        return _auto_class(config).from_config(config, dtype=torch.float32, **implementation)


def backbone_without_values(config: PretrainedConfig, attn_implementation: str | None) -> PreTrainedModel:
    """As `build_backbone`, under torch's FakeTensorMode, where initialisers that look at values fail."""
    with no_init_weights():
        backbone = build_backbone(config, attn_implementation)
    backbone.tie_weights()
    return backbone


def _cannot_be_built(fresh: FreshBackboneConfig, error: BaseException) -> UserError:
    return UserError(f"model.fresh: {fresh.architecture!r} cannot be built with these settings: {_first_line(error)}")


def _settings(fresh: FreshBackboneConfig, *, vocabulary_size: int, max_positions: int) -> dict[str, Any]:
    """Our settings under the names that the architecture's configuration knows."""
    defaults = AutoConfig.for_model(fresh.architecture)
    heads = fresh.heads or max(1, fresh.width // 64)
    settings: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": fresh.width,
        "num_hidden_layers": fresh.layers,
        "num_attention_heads": heads,
        # XLNet keeps it apart from the width that it must follow.
        "d_head": fresh.width // heads,
        # Two more than asked for: XLM-R and its kin count positions from the padding id + 1.
        "max_position_embeddings": max_positions + PAD_ID + 1,
        "bos_token_id": 0,
        "cls_token_id": 0,
        "pad_token_id": PAD_ID,
        "eos_token_id": 2,
        "sep_token_id": 2,
    }
    if getattr(defaults, "max_position_embeddings", None) == -1:
        # XLNet's way of saying that it has no limit, and takes none.
        del settings["max_position_embeddings"]
    known = {name: value for name, value in settings.items() if hasattr(defaults, name)}
    intermediate_size = fresh.intermediate_size or 4 * fresh.width
    known |= {name: intermediate_size for name in _INTERMEDIATE_NAMES if hasattr(defaults, name)}
    known |= dropouts(defaults, fresh.dropout)
    if hasattr(defaults, "num_key_value_heads"):
        known["num_key_value_heads"] = heads
    if hasattr(defaults, "use_cache"):
        known["use_cache"] = False
    if lost := {"vocab_size", "hidden_size", "num_hidden_layers"} - set(known):
        raise UserError(
            f"model.fresh.architecture {fresh.architecture!r} has no {', '.join(sorted(lost))}: it encodes no text"
        )
    for name in fresh.options:
        if not hasattr(defaults, name):
            hint = _near(name, defaults.to_dict())
            raise UserError(f"model.fresh.options: {fresh.architecture!r} has no setting {name!r}{hint}")
    return known | fresh.options


def dropouts(config: PretrainedConfig, probability: float) -> dict[str, float]:
    """Every dropout that a configuration has, set to `probability`."""
    return {name: probability for name in _DROPOUT_NAMES if isinstance(getattr(config, name, None), int | float)}


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=5, cutoff=0.4)
    return f"; near names: {', '.join(near)}" if near else ""


def _auto_class(config: PretrainedConfig) -> Any:
    """Of T5 and its kin the encoder alone; a saved one no longer says that it was half of something."""
    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise ValueError(f"transformers has no encoder of its own for the encoder-decoder {config.model_type!r}")
    return AutoModel


def _first_line(error: BaseException) -> str:
    lines = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    return f"{type(error).__name__}: {lines}" if lines else type(error).__name__


def max_positions(backbone: nn.Module) -> int | None:
    """Longest input in tokens that the backbone's table of positions allows; None where it has no such table.

    XLM-R's table starts two rows late, so that 514 rows make 512 positions.
    """
    limits = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - max(start, getattr(module, "offset", 0)))
    return min(limits, default=None)


def unused_parameters(backbone: PreTrainedModel) -> set[str]:
    """Names of the parameters that the hidden states do not depend on: a pooler, a mask embedding.

    Found on the autograd graph of one short input; nothing is differentiated.

    Raises:
        UserError: the backbone cannot encode a text.
    """
    ids = torch.full((1, 3), min(5, backbone.config.vocab_size - 1))
    with quiet_transformers(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            hidden: Tensor = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except (*_BUILD_ERRORS, UnboundLocalError, IndexError) as error:
            raise UserError(
                f"the backbone {backbone.config.model_type!r} cannot encode a text: {_first_line(error)}; "
                "choose another architecture, or other settings"
            ) from error
    used: set[int] = set()
    seen: set[Any] = set()
    stack = [hidden.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            used.add(id(node.variable))
        stack.extend(following for following, _ in node.next_functions)
    return {name for name, parameter in backbone.named_parameters() if id(parameter) not in used}
