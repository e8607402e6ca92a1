"""How fast texts were encoded, beside what the device's matrix products allow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from hybatch.models import Encoder
from hybatch.models.backbone.traits import unused_parameters
from hybatch.models.flops import encoder_flops

# Tokens in the product that the rate is measured with, and for how long it is repeated.
_TOKENS = 4096
_SECONDS = 0.2


class EncodingDone:
    """Counts what was encoded by all processes.

    Attributes:
        tokens: of the texts, without padding.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._texts_of_length: Counter[int] = Counter()  # by tokens that the encoder computed with, padding included

    def add(self, encoder: Encoder, batches: Iterable[np.ndarray]) -> None:
        """Count batches, each the numbers of tokens of its texts."""
        for lengths_B in batches:
            self.tokens += int(lengths_B.sum())
            if encoder.padded_because is None:
                self._texts_of_length.update(lengths_B.tolist())
            else:
                self._texts_of_length[int(lengths_B.max())] += len(lengths_B)

    def operations(self, encoder: Encoder) -> int:
        """Of the encoder, whole on this process, over what was counted; 0 where they cannot be told."""
        if not isinstance(getattr(encoder.backbone.config, "num_hidden_layers", None), int):
            return 0
        flops = encoder_flops(encoder.backbone, encoder.head, unused_parameters(encoder.backbone))
        return flops.forward((texts, tokens) for tokens, texts in self._texts_of_length.items())

    def rates(self, encoder: Encoder, seconds: float) -> dict[str, Any]:
        """For timings.json: tokens per second; operations per second, and what share of a plain product's they are; why
        texts were padded, if they were.

        Args:
            seconds: in which all processes together encoded what was counted.
        """
        found: dict[str, Any] = {"tokens": self.tokens, "tokens_per_second": self.tokens / seconds}
        if encoder.padded_because is not None:
            found["padded_because"] = encoder.padded_because
        if operations := self.operations(encoder):
            reached, possible = operations / seconds, product_rate(encoder)
            found |= {"encoder_tflops": reached / 1e12, "product_tflops": possible / 1e12}
            found["share_of_product_rate"] = reached / possible
        return found


def product_rate(encoder: Encoder) -> float:
    """Operations per second of one process's plain matrix product, as large as those of the encoder's layers."""
    width = encoder.backbone.config.hidden_size
    dtype = encoder.autocast_dtype or torch.float32
    device = next(encoder.parameters()).device
    tokens_NH = torch.ones(_TOKENS, width, dtype=dtype, device=device)
    weight_FH = torch.ones(4 * width, width, dtype=dtype, device=device)

    def once() -> float:
        started = time.perf_counter()
        torch.nn.functional.linear(tokens_NH, weight_FH)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    fastest, stop = once(), time.perf_counter() + _SECONDS
    while time.perf_counter() < stop:
        fastest = min(fastest, once())
    return 2 * _TOKENS * 4 * width * width / fastest
