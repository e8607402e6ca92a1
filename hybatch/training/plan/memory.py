"""Memory of a training step on one device, per strategy: pure arithmetic on sizes. All sizes are bytes.

Weights, gradients and AdamW's two moments are float32 under every strategy (bf16 is an autocast around the encoder),
4 bytes a parameter each. W is the number of processes, one for each device.

- none, ddp: everything whole on every device; DistributedDataParallel's buckets are the gradients themselves.
- zero1: the moments, and the float32 master copy that DeepSpeed keeps of its part, are cut into W parts.
- zero2: so are the gradients.
- zero3: so are the weights; a step gathers them as it goes, up to DeepSpeed's bound on live parameters.
- zero3-offload: the cut parts live in the host's memory.
- fsdp2: weights, gradients and moments are cut; a step gathers two layers and what stands outside the layers.

Sources: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 3, for
what each stage cuts; DeepSpeed's documented defaults for buckets and live parameters.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from hybatch.losses.info_nce import DENSE_LOGITS_BYTES
from hybatch.losses.terms.alignment import TILES_AT_ONCE, tile_side
from hybatch.training.plan.activations import ActivationProfile

StrategyName = Literal["none", "ddp", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2"]

_FLOAT = 4
# DeepSpeed's defaults, in parameters; the configurations beside the recipes keep them.
_REDUCE_BUCKET = 500_000_000
_LIVE_PARAMETERS = 1_000_000_000
# Bytes of float32 logits in a tile of the streaming loss on an accelerator, and how many matrices of a tile's or the
# whole problem's shape live at once.
_TILE_BYTES = 2**28
_LOGIT_MATRICES = 4
# Of these, what the dense loss of one width keeps for the backward pass while the next one's is computed, about.
_KEPT_MATRICES = 2
# What CUDA, its libraries and the allocator's fragments take is not modelled: a plan fits if it leaves this share free.
_HEADROOM = 0.1


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a step encodes.

    Attributes:
        batch_size: examples over all devices.
        chunk_size: texts encoded at once; None for all of a device's.
        negatives: hard negatives per example.
        ring: whether passages pass round a ring of devices instead of being gathered.
        dense: whether the loss goes through the matrix of logits; None leaves it to the size of the matrix.
        checkpointing: whether layers are computed again instead of being kept.
        width: of the embeddings.
        translations: whether a translation of every query is encoded beside it, and aligned with it.
        positives: positives per example.
        leading: widths of the leading dimensions that the loss cuts embeddings to.
    """

    batch_size: int
    chunk_size: int | None
    negatives: int
    ring: bool
    dense: bool | None
    checkpointing: bool
    width: int
    translations: bool = False
    positives: int = 1
    leading: tuple[int, ...] = ()

    @property
    def passages(self) -> int:
        """Positives and hard negatives per example."""
        return self.positives + self.negatives


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Parameters: all, those that learn, those of the largest layer, those outside the layers, and of the last two
    those that learn."""

    all: int
    learning: int
    layer: int
    outside: int
    learning_layer: int
    learning_outside: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device; `host` is what its process keeps in the host's memory.

    Attributes:
        buffers: what the strategy gathers and exchanges through.
        activations: what the forward pass keeps for the backward pass, and what passes between them.
        caches: embeddings of the global batch, their gradients, and the loss's logits.
    """

    weights: float
    gradients: float
    optimizer: float
    buffers: float
    activations: float
    caches: float
    host: float

    @property
    def total(self) -> float:
        """On the device."""
        return self.weights + self.gradients + self.optimizer + self.buffers + self.activations + self.caches

    def fits(self, capacity: float) -> bool:
        """Whether a device of so many bytes holds it, with a tenth left for what is not modelled."""
        return self.total <= (1 - _HEADROOM) * capacity

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"total": self.total}


def strategies(devices: int) -> tuple[StrategyName, ...]:
    """The strategies that so many devices can run, least cut first."""
    several: tuple[StrategyName, ...] = ("ddp", "zero1", "zero2", "zero3", "zero3-offload", "fsdp2")
    return several if devices > 1 else ("none", *several[1:5])


def plan_memory(
    strategy: StrategyName,
    *,
    devices: int,
    counts: ParameterCounts,
    work: Workload,
    queries: ActivationProfile,
    passages: ActivationProfile,
) -> Memory:
    """Memory of a step at its highest.

    Args:
        queries, passages: profiles of texts of the two roles at the length to plan for.
    """
    share = 1 / devices
    weights, gradients, on_host = float(_FLOAT * counts.all), float(_FLOAT * counts.learning), 0.0
    moments = 2 * gradients
    if strategy.startswith("zero"):
        moments *= 1.5  # and the master copy
    if strategy not in ("none", "ddp"):
        moments *= share
    if strategy not in ("none", "ddp", "zero1"):
        gradients *= share
    if strategy in ("zero3", "zero3-offload", "fsdp2"):
        weights *= share
    if strategy == "zero3-offload":
        on_host, weights, gradients, moments = weights + gradients + moments, 0.0, 0.0, 0.0
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=moments,
        buffers=_buffers(strategy, counts),
        activations=activation_bytes(work, devices, queries, passages),
        caches=cache_bytes(work, devices),
        host=on_host,
    )


def _buffers(strategy: StrategyName, counts: ParameterCounts) -> float:
    bucket = min(_REDUCE_BUCKET, counts.learning)
    if strategy in ("zero1", "zero2"):
        return _FLOAT * 2 * bucket  # one is filled while the other is reduced
    if strategy in ("zero3", "zero3-offload"):
        return _FLOAT * (bucket + min(_LIVE_PARAMETERS, counts.all))
    if strategy == "fsdp2":
        # Gathered: what is outside the layers, the layer at work and the next. Whole gradients of a unit live in two
        # copies while they are scattered.
        gradients = 2 * max(counts.learning_outside, counts.learning_layer)
        return _FLOAT * (counts.outside + 2 * counts.layer + gradients)
    return 0.0


def activation_bytes(work: Workload, devices: int, queries: ActivationProfile, passages: ActivationProfile) -> float:
    """With a chunk size, of the costlier chunk; without, of all texts of the device."""
    rows = work.batch_size // devices
    texts = ((queries, rows * (1 + work.translations)), (passages, rows * work.passages))
    if work.chunk_size is None:
        kept = sum(profile.kept(number, checkpointing=work.checkpointing) for profile, number in texts)
        return kept + max(profile.passing(number) for profile, number in texts)
    chunks = [(profile, min(number, work.chunk_size)) for profile, number in texts]
    return max(p.kept(n, checkpointing=work.checkpointing) + p.passing(n) for p, n in chunks)


def cache_bytes(work: Workload, devices: int) -> float:
    """Float32 embeddings of the device's texts and of the gathered ones, the gradients of both, and the logits.

    In a ring three blocks take the place of what is gathered: this device's own, the one at hand and the next. Cut to
    leading dimensions are the queries and what they are compared with at once, with the gradients of both.
    """
    rows = work.batch_size // devices
    candidates = work.batch_size * work.passages
    at_once = rows * work.passages if work.ring else candidates
    gathered = min(candidates, 3 * at_once)
    embeddings = 2 * _FLOAT * work.width * (rows * (1 + work.passages + work.translations) + gathered)
    embeddings += 2 * _FLOAT * sum(work.leading) * (rows + at_once)
    logits = _FLOAT * rows * at_once
    dense = not work.ring and (logits <= DENSE_LOGITS_BYTES if work.dense is None else work.dense)
    aligned = TILES_AT_ONCE * min(logits, _FLOAT * tile_side("cuda") ** 2) if work.translations else 0
    matrices = _LOGIT_MATRICES + (_KEPT_MATRICES * len(work.leading) if dense else 0)
    return embeddings + max(matrices * (logits if dense else min(logits, _TILE_BYTES)), aligned)


def largest_chunk_size(
    strategy: StrategyName,
    *,
    capacity: float,
    devices: int,
    counts: ParameterCounts,
    work: Workload,
    queries: ActivationProfile,
    passages: ActivationProfile,
) -> int | None:
    """The largest power of two, not above the texts of one role on a device, that fits; None where none does."""
    size = 1 << (work.batch_size // devices).bit_length() - 1
    while size:
        chunked = replace(work, chunk_size=size)
        memory = plan_memory(strategy, devices=devices, counts=counts, work=chunked, queries=queries, passages=passages)
        if memory.fits(capacity):
            return size
        size //= 2
    return None
