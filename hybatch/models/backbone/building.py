"""What both ways to a backbone stand on: from a configuration to the module, without remarks of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoModel,
    AutoModelForTextEncoding,
    PretrainedConfig,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
# What transformers and the classes under it raise for a configuration that they cannot build.
BUILD_ERRORS = (
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


def build_backbone(config: PretrainedConfig, attn_implementation: str | None) -> PreTrainedModel:
    """Make the backbone of a configuration in fp32, on the device and from the random numbers that are current."""
    implementation = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    with quiet_transformers():
        return auto_class(config).from_config(config, dtype=torch.float32, **implementation)


def backbone_without_values(config: PretrainedConfig, attn_implementation: str | None) -> PreTrainedModel:
    """As `build_backbone`, under torch's FakeTensorMode, where initialisers that look at values fail."""
    with no_init_weights():
        backbone = build_backbone(config, attn_implementation)
    backbone.tie_weights()
    return backbone


def auto_class(config: PretrainedConfig) -> Any:
    """Of T5 and its kin the encoder alone; a saved one no longer says that it was half of something."""
    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise ValueError(f"transformers has no encoder of its own for the encoder-decoder {config.model_type!r}")
    return AutoModel


def dropouts(config: PretrainedConfig, probability: float) -> dict[str, float]:
    """Every dropout that a configuration has, set to `probability`."""
    return {name: probability for name in _DROPOUT_NAMES if isinstance(getattr(config, name, None), int | float)}


def first_line(error: BaseException) -> str:
    """The kind of an error and what it says first, on one line."""
    lines = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    return f"{type(error).__name__}: {lines}" if lines else type(error).__name__
