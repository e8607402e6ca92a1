"""The encoder as one ONNX graph, from tokens to the normalised vector.

B batch rows, T tokens of the longest.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.models import Encoder, Role
from hybatch.models.backbone.building import quiet_transformers

GRAPH = "model.onnx"
TOLERANCE = 1e-4
"""Largest difference of a number in a vector from the encoder's own: fp32 products in another order stay far below."""
_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "sentence_embedding"
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Of unlike lengths, in several scripts; the batches that the graph is tried on are cut from them.
_TEXTS = (
    "one",
    "Was ist die Hauptstadt von Italien?",
    "The capital of Italy is Rome, a city of nearly three million people on the river Tiber.",
    "中国的首都是哪里？",
    "Столица России — Москва.",
    "many words " * 40,
)
_BATCHES = (_TEXTS, _TEXTS[:1], _TEXTS[5:], _TEXTS[1:3], _TEXTS[::-1] * 3)


def import_onnx() -> Any:
    """onnxruntime, where all that an export needs is there.

    Raises:
        UserError: a package is missing.
    """
    try:
        modules = [importlib.import_module(name) for name in _PACKAGES]
    except ImportError as error:
        raise UserError(f"hybatch export: {error.name} is not installed; pip install 'hybatch[onnx]'") from error
    return modules[-1]


class _Graph(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder({"input_ids": input_ids, "attention_mask": attention_mask})


def write_graph(encoder: Encoder, path: Path) -> None:
    """Export through torch.export, with any number of texts and of tokens; weights of more than 2 GB stand beside.

    The encoder takes padded texts from now on. Texts are one segment: `token_type_ids` are the backbone's zeros.

    Raises:
        UserError: torch cannot export the architecture.
        OSError: the file cannot be written.
    """
    encoder.pad("a graph takes padded texts")
    features = encoder.tokenize(_TEXTS[:3], "passage")
    axes = {0: "texts", 1: "tokens"}
    try:
        with torch.no_grad(), quiet_transformers(), _quiet_export():
            program = torch.onnx.export(
                _Graph(encoder),
                tuple(features[name] for name in _INPUTS),
                dynamo=True,
                input_names=_INPUTS,
                output_names=[_OUTPUT],
                dynamic_shapes=(axes, axes),
                verbose=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).strip().splitlines()[0]
        kind = encoder.backbone.config.model_type
        raise UserError(f"torch cannot export the architecture {kind!r} to ONNX ({reason})") from error
    assert program is not None
    program.save(path)


def largest_difference(encoder: Encoder, path: Path) -> float:
    """Between a number of the graph's vectors and of the encoder's, over batches of unlike sizes and lengths; NaN where
    either has one."""
    session = import_onnx().InferenceSession(path)
    roles: tuple[Role, Role] = ("query", "passage")
    worst = 0.0
    for role in roles:
        for texts in _BATCHES:
            features = encoder.tokenize(texts, role)
            with torch.inference_mode():
                expected = encoder(features).numpy()
            (found,) = session.run([_OUTPUT], {name: features[name].numpy() for name in _INPUTS})
            worst = float(np.maximum(worst, np.abs(found - expected).max()))
    return worst


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Without the exporter's remarks on its own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
