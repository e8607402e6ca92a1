"""Attention within each text of one sequence, by torch's FlashAttention for texts of different lengths, on a GPU.

The public `torch.nn.attention.varlen` leads to the same operator, and leaves out dropout. torch promises nothing of the
operator itself, so that each process first looks whether it gives here what padded rows give.

h heads, N tokens of all texts, d width of a head.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from hybatch.models.unpadded.dot_products import repadded
from hybatch.models.unpadded.sequence import TokenSequence

_HALVES = (torch.bfloat16, torch.float16)
_OLDEST_CAPABILITY = (8, 0)
"""Of the GPUs that torch compiles FlashAttention for."""
_WIDTHS = range(8, 257, 8)
"""Of a head."""
_LENGTHS = (5, 1, 37, 64, 70)
"""Of the texts that are compared."""


def flash(
    query_hNd: Tensor,
    key_hNd: Tensor,
    value_hNd: Tensor,
    sequence: TokenSequence,
    *,
    causal: bool,
    window: int | None,
    dropout: float,
    scale: float | None,
) -> Tensor:
    """No padding at all: one launch each way, whatever the lengths."""
    sight = -1 if window is None else window - 1
    attended_Nhd = torch.ops.aten._flash_attention_forward(
        *(tensor.transpose(0, 1) for tensor in (query_hNd, key_hNd, value_hNd)),
        sequence.starts,
        sequence.starts,
        sequence.longest,
        sequence.longest,
        dropout,
        causal,
        False,
        scale=scale,
        window_size_left=sight,
        window_size_right=0 if causal else sight,
    )[0]
    return attended_Nhd[None]


def has_flash(query_hNd: Tensor) -> bool:
    """Whether `flash` is there for it, gives the right results, and nobody has switched FlashAttention off."""
    return (
        query_hNd.is_cuda
        and query_hNd.dtype in _HALVES
        and query_hNd.shape[-1] in _WIDTHS
        and torch.backends.cuda.is_flash_attention_available()
        and torch.backends.cuda.flash_sdp_enabled()
        and torch.cuda.get_device_capability(query_hNd.device) >= _OLDEST_CAPABILITY
        and _is_right(query_hNd.device, query_hNd.dtype, query_hNd.shape[-1])
    )


@functools.cache
def _is_right(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether it agrees with padded rows, for windows to one and to both sides too; said where it does not."""
    reason = _apart(lambda: why_unlike(flash, device, dtype, width))
    if reason is not None:
        warnings.warn(
            f"texts are padded for attention: FlashAttention without padding does not work with torch "
            f"{torch.__version__} on {device} ({reason})",
            stacklevel=2,
        )
    return reason is None


def _apart(ask: Callable[[], str | None]) -> str | None:
    """In a thread of its own, where nothing that the caller has switched on is on: autocast, inference mode, no_grad,
    what checkpointing does with the tensors of a graph."""
    answers: list[str | None] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), name="flash-check")
    thread.start()
    thread.join()
    return answers[0] if answers else "the comparison ended with an error"


def why_unlike(attend: Callable[..., Tensor], device: torch.device, dtype: torch.dtype, width: int) -> str | None:
    """How what `attend` gives, and its gradients, differ from those of padded rows by more than rounding; None: not."""
    generator = torch.Generator(device).manual_seed(0)
    mask_nT = torch.arange(max(_LENGTHS)) < torch.tensor(_LENGTHS)[:, None]
    sequence = TokenSequence.of_mask(mask_nT, device)
    size = (4, 2, sum(_LENGTHS), width)
    *heads, weights = torch.randn(size, generator=generator, device=device).to(dtype).unbind()

    def differentiated(one: Callable[..., Tensor], causal: bool, window: int | None) -> tuple[Tensor, ...]:
        own = [tensor.detach().requires_grad_() for tensor in heads]
        found = one(*own, sequence, causal=causal, window=window, dropout=0.0, scale=width**-0.5)
        return found.detach(), *torch.autograd.grad((found[0].transpose(0, 1) * weights).sum(), own)

    for causal, window in ((False, None), (True, None), (False, 8), (True, 8)):
        try:
            pairs = zip(differentiated(attend, causal, window), differentiated(repadded, causal, window), strict=True)
            gaps = [float((its - other).float().norm() / other.float().norm()) for its, other in pairs]
        except (RuntimeError, TypeError, AttributeError) as error:
            return f"{type(error).__name__}: {error}"
        if not max(gaps) <= 4 * torch.finfo(dtype).eps:
            return f"results differ by {max(gaps):.1e}, causal {causal}, window {window}"
    return None
