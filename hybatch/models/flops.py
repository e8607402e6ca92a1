"""How much arithmetic encoding is, and what share of a device's peak a training step reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import nn

# Dense bf16 tensor-core peaks in TFLOP/s, from NVIDIA's data sheets (the figures "with sparsity" halved); the more
# particular name first.
_BF16_PEAKS = {"H200": 989.4, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.4, "A100": 312.0}


@dataclass(frozen=True, kw_only=True)
class EncoderFlops:
    """What the arithmetic of an encoder depends on.

    Attributes:
        matrix_parameters: weights that every token is multiplied with; tables that are only looked up do not count.
        head_parameters: weights that every text is multiplied with, once pooled.
        attention_width: number of layers x width of all heads; 0 without attention.
        frozen_matrix_parameters: those of `matrix_parameters` that have no gradient.
        frozen_head_parameters: likewise of `head_parameters`.
    """

    matrix_parameters: int
    head_parameters: int
    attention_width: int
    frozen_matrix_parameters: int = 0
    frozen_head_parameters: int = 0

    def forward(self, chunks: Iterable[tuple[int, int]]) -> int:
        """Floating-point operations of encoding (texts, tokens per text), padding included.

        A multiplication and an addition are two. Per text of T tokens: 2 T matrix_parameters, and 4 T^2 per layer and
        unit of width for the two products of attention (Kaplan et al. 2020, "Scaling Laws for Neural Language Models",
        table 1, without the causal half). Norms, softmax and activation functions are left out.
        """
        return sum(
            texts * (tokens * (2 * self.matrix_parameters + 4 * tokens * self.attention_width))
            + texts * 2 * self.head_parameters
            for texts, tokens in chunks
        )

    def backward(self, chunks: Iterable[tuple[int, int]]) -> int:
        """Operations of the backward pass: two forward passes, less the gradients of frozen weights.

        The gradient of what goes into a layer is counted for every layer, though nothing wants that of what goes into
        the first one of a frozen backbone.
        """
        texts_and_tokens = list(chunks)
        frozen = sum(
            texts * 2 * (tokens * self.frozen_matrix_parameters + self.frozen_head_parameters)
            for texts, tokens in texts_and_tokens
        )
        return 2 * self.forward(texts_and_tokens) - frozen

    def step(self, chunks: Sequence[Sequence[tuple[int, int]]], *, cached: bool, recomputed: bool = False) -> int:
        """Operations of a training step.

        Args:
            chunks: (texts, tokens per text) of what each holds, in the order in which they are encoded.
            cached: gradient caching encodes every chunk but the last once more.
            recomputed: gradient checkpointing does so too. By custom it does not count towards the utilisation that
                logs report.
        """
        again = self.forward(chain.from_iterable(chunks[:-1])) if cached else 0
        every = list(chain.from_iterable(chunks))
        return (1 + recomputed) * self.forward(every) + self.backward(every) + again


def encoder_flops(backbone: nn.Module, head: nn.Module | None, unused: Set[str]) -> EncoderFlops:
    """Count a whole (not yet sharded) backbone of transformers.

    Args:
        unused: names of the parameters that take no part in the encoding.
    """
    tables = {id(module.weight) for module in backbone.modules() if isinstance(module, nn.Embedding)}
    matrices = [
        parameter
        for name, parameter in backbone.named_parameters()
        if name not in unused and parameter.ndim == 2 and id(parameter) not in tables
    ]
    head_matrices = [parameter for parameter in head.parameters() if parameter.ndim == 2] if head is not None else []
    config: Any = backbone.config
    # Qwen3's heads are wider together than its hidden states; heads that share keys and values spare no product.
    head_dim = getattr(config, "head_dim", None)
    width = config.num_attention_heads * head_dim if head_dim else config.hidden_size
    return EncoderFlops(
        matrix_parameters=_count(matrices),
        head_parameters=_count(head_matrices),
        attention_width=config.num_hidden_layers * width,
        frozen_matrix_parameters=_count(p for p in matrices if not p.requires_grad),
        frozen_head_parameters=_count(p for p in head_matrices if not p.requires_grad),
    )


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def bf16_peak_tflops(device_name: str) -> float | None:
    """Peak of dense bf16 products in TFLOP/s of a device as CUDA names it; None where it is not in the table."""
    return next((peak for name, peak in _BF16_PEAKS.items() if name in device_name), None)


def rates(
    flops: EncoderFlops,
    chunks: Sequence[Sequence[tuple[int, int]]],
    *,
    cached: bool,
    seconds: float,
    peak_tflops: float | None,
) -> dict[str, float]:
    """What this process's device did in a step.

    Args:
        chunks: (texts, tokens per text) that the process encoded, chunk by chunk.
        cached: whether gradient caching encoded every chunk but the last once more.
        seconds: of the whole step, waiting for the batch and for other processes included.
        peak_tflops: of the device; None where it is not known.

    Returns:
        "tflops": 10^12 operations per second, the second encoding of gradient caching included; with a peak, "mfu": the
        share of it that the model's own operations take, one forward and one backward pass, as is the custom
        (Chowdhery et al. 2022, "PaLM", appendix B).
    """
    found = {"tflops": flops.step(chunks, cached=cached) / seconds / 1e12}
    if peak_tflops is not None:
        found["mfu"] = flops.step(chunks, cached=False) / seconds / 1e12 / peak_tflops
    return {name: float(f"{value:.4g}") for name, value in found.items()}
