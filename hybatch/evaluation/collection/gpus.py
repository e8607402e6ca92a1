"""Indexes of faiss on GPUs: which can go there, and how they are shared out."""

from __future__ import annotations

from typing import Any

from hybatch.errors import UserError

SEARCH_DEVICES = ("auto", "cpu", "gpu")
ON_GPUS = ("faiss-flat", "faiss-ivf-pq")

# Bytes a vector that the GPU kernels of an inverted file are built for, and that fit their shared memory at float16.
GPU_CODE_SIZES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)


def gpus_for(faiss: Any, method: str, device: str) -> int:
    """How many GPUs the index of a method is to be sharded over; 0 for none.

    Args:
        faiss: the module.
        method: one of `hybatch.evaluation.collection.search.METHODS` that is faiss's.
        device: "auto" takes all GPUs that faiss sees where the method can use them, "gpu" insists, "cpu" takes none.

    Raises:
        UserError: GPUs are insisted upon, and faiss has none for the method.
    """
    if device == "cpu" or (device == "auto" and method not in ON_GPUS):
        return 0
    if method not in ON_GPUS:
        raise UserError(f"--search-device gpu: {method} has no form for GPUs in faiss; take {' or '.join(ON_GPUS)}")
    count = int(faiss.get_num_gpus())
    if count == 0 and device == "gpu":
        built = hasattr(faiss, "StandardGpuResources")
        reason = (
            "faiss sees no GPU on this machine"
            if built
            else "the faiss installed is made for CPUs alone; pip uninstall faiss-cpu, then pip install "
            "'hybatch[search-gpu]'"
        )
        raise UserError(f"--search-device gpu: {reason}, or leave the option out")
    return count


def over_gpus(faiss: Any, index: Any, count: int) -> Any:
    """The index shared out over `count` GPUs, each with its own part of the vectors."""
    options = faiss.GpuMultipleClonerOptions()
    options.shard = True
    # Look-up tables of an inverted file with long codes fit a GPU's shared memory in half precision alone; a flat index
    # keeps its vectors, and so its scores, in float32.
    options.useFloat16 = isinstance(index, faiss.IndexIVFPQ)
    return faiss.index_cpu_to_all_gpus(index, co=options, ngpu=count)
