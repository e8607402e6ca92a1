"""Which backend runs, and what is said where one is missing."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybatch.ops import BackendError, backend, describe, description, trial
from hybatch.ops.backend import agreed, choose_backend, why_missing
from hybatch.ops.contrastive.trials import CONTRASTIVE_TERMS, INFO_NCE
from hybatch.ops.trial import Figures, Trial

CPU = torch.device("cpu")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in the place of the package, and no memory of what was loaded before."""
    monkeypatch.setattr(backend, "_PACKAGE", tmp_path)
    monkeypatch.delenv("HYBATCH_BACKEND", raising=False)
    monkeypatch.setattr(trial, "_remembered", {})
    backend._load.cache_clear()
    yield tmp_path
    backend._load.cache_clear()


def test_without_compiled_libraries_everything_runs_in_torch(package: Path) -> None:
    assert choose_backend(CPU) == "torch"
    assert choose_backend(torch.device("cuda", 0)) == "torch"
    assert choose_backend(torch.device("mps")) == "torch"


def test_asking_for_a_backend_that_was_not_compiled_says_so(package: Path) -> None:
    with pytest.raises(BackendError, match=r"backend='cpu': this backend is missing: .*_cpu\.so is not there"):
        choose_backend(CPU, "cpu")


def test_asking_through_the_environment_names_the_variable(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    with pytest.raises(BackendError, match="HYBATCH_BACKEND=cpu: this backend is missing"):
        choose_backend(CPU)
    monkeypatch.setenv("HYBATCH_BACKEND", "gpu")
    with pytest.raises(ValueError, match="HYBATCH_BACKEND=gpu: no such backend; choose from auto, torch, cpu, cuda"):
        choose_backend(CPU)


def test_the_argument_wins_over_the_environment(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    assert choose_backend(CPU, "torch") == "torch"


def test_a_library_that_does_not_load_is_quoted(package: Path) -> None:
    (package / "_cpu.so").write_bytes(b"not a library")
    reason = why_missing("cpu")
    assert reason is not None
    assert "failed to load" in reason
    assert "_cpu.so" in reason
    assert choose_backend(CPU) == "torch"


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_cuda_without_cuda_in_torch_says_so(package: Path) -> None:
    with pytest.raises(BackendError, match=f"torch {torch.__version__.split('+')[0]}.* is built without CUDA"):
        choose_backend(CPU, "cuda")


def test_a_backend_of_another_device_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "why_missing", lambda *names: None)
    with pytest.raises(ValueError, match="needs tensors on cuda; queries are on cpu"):
        choose_backend(CPU, "cuda")
    assert choose_backend(CPU) == "cpu"
    assert choose_backend(torch.device("cuda", 1)) == "cuda"


def test_a_gpu_that_the_kernels_are_not_compiled_for_is_served_by_torch(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capabilities = {"cuda:0": (7, 5), "cuda:1": (8, 0), "cuda:2": (12, 0)}
    monkeypatch.setattr(backend, "_load", functools.cache(lambda name: None))
    monkeypatch.setattr(backend, "_has_kernel", lambda *names: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[str(device)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    chosen = [choose_backend(torch.device(name)) for name in capabilities]
    assert chosen == ["torch", "cuda", "cuda"]
    with pytest.raises(BackendError, match=r"missing: Tesla T4 has compute capability 7\.5; .* need 8\.0 or later"):
        choose_backend(torch.device("cuda:0"), "cuda")


def test_the_description_says_what_runs_and_why_not_a_faster_one(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, cuda, contrastive, _, terms, _ = describe()
    assert (cpu.op, cpu.backend) == ("rank_counts, cpu tensors", "torch")
    assert "_cpu.so is not there" in cpu.reason
    assert (contrastive.op, contrastive.backend) == ("info_nce, cpu tensors", "torch")
    assert (terms.op, terms.backend) == ("contrastive_terms, cpu tensors", "torch")
    assert cuda.backend == ("torch" if torch.cuda.is_available() else "none")
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    assert describe()[0].backend == "none"
    _nothing_is_missing(monkeypatch)
    monkeypatch.setattr(trial, "measure", _torch_is_faster)
    monkeypatch.setenv("HYBATCH_BACKEND", "")
    assert describe()[0] == ("rank_counts, cpu tensors", "cpu", "the fastest there is")
    monkeypatch.setenv("HYBATCH_BACKEND", "torch")
    assert describe()[0] == ("rank_counts, cpu tensors", "torch", "HYBATCH_BACKEND=torch asks for it")


def _nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backend, description):
        monkeypatch.setattr(module, "why_missing", lambda *names: None)


def _torch_is_faster(trial: Trial, backends: Sequence[str]) -> Figures:
    seconds = {"cpu": 0.002, "blas": 0.0018, "torch": 0.0015}
    return Figures({backend: seconds[backend] for backend in backends}, True, "2026-01-31 12:00", 2)


@pytest.fixture
def compiled(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled ops that are slower than torch's, on a processor where `cpu` is preferred."""
    _nothing_is_missing(monkeypatch)
    monkeypatch.setattr(backend, "_our_products_lead", lambda processor: True)
    monkeypatch.setattr(trial, "measure", _torch_is_faster)


def test_of_backends_that_are_there_auto_is_the_one_that_was_fastest(compiled: None) -> None:
    assert choose_backend(CPU, family="contrastive", trial=INFO_NCE) == "torch"
    assert choose_backend(CPU, family="ranking") == "cpu"
    assert choose_backend(CPU, "cpu", "contrastive", INFO_NCE) == "cpu"


@pytest.mark.parametrize(
    ("vendor", "flags", "preferred"),
    [
        ("AuthenticAMD", "fma avx2 avx512f avx512vnni", "cpu"),
        ("AuthenticAMD", "fma avx2", "blas"),
        ("GenuineIntel", "fma avx2 avx512f", "blas"),
        ("", "", "blas"),
    ],
)
def test_where_figures_do_not_tell_the_faster_product_of_that_processor_is_taken(
    vendor: str, flags: str, preferred: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nothing_is_missing(monkeypatch)
    monkeypatch.setattr(backend, "processor_facts", lambda: {"vendor_id": vendor, "flags": flags})
    monkeypatch.setattr(trial, "measure", lambda *names: replace(_torch_is_faster(*names), clear=False))
    assert choose_backend(CPU, family="contrastive", trial=INFO_NCE) == preferred
    assert choose_backend(CPU, family="ranking") == "cpu"


def test_the_environment_wins_over_figures(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    assert choose_backend(CPU, family="contrastive", trial=INFO_NCE) == "cpu"


def test_a_backend_that_ranking_has_not_is_refused_as_an_argument_and_leaves_it_to_auto_in_the_environment(
    compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_backend(CPU, "blas", "contrastive") == "blas"
    refused = "backend='blas': no such backend of the ranking ops; choose from auto, torch, cpu, cuda"
    with pytest.raises(ValueError, match=refused):
        choose_backend(CPU, "blas", "ranking")
    monkeypatch.setenv("HYBATCH_BACKEND", "blas")
    assert choose_backend(CPU, family="ranking") == "cpu"
    assert choose_backend(CPU, family="contrastive", trial=INFO_NCE) == "blas"
    assert describe()[0] == ("rank_counts, cpu tensors", "cpu", "the fastest there is")
    assert describe()[2] == ("info_nce, cpu tensors", "blas", "HYBATCH_BACKEND=blas asks for it")
    with pytest.raises(
        ValueError, match="HYBATCH_BACKEND=blas: this backend needs tensors on cpu; queries are on cuda"
    ):
        choose_backend(torch.device("cuda", 0), family="contrastive")


def test_what_processes_agreed_on_wins_over_the_environment_until_the_block_ends(
    compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(requested: str = "auto") -> list[str]:
        return [choose_backend(CPU, requested, "contrastive", op) for op in (INFO_NCE, CONTRASTIVE_TERMS)]

    monkeypatch.setenv("HYBATCH_BACKEND", "torch")
    with agreed({"info_nce": "cpu"}):
        assert chosen() == ["cpu", "torch"]
        assert chosen("torch") == ["torch", "torch"]
        with suppress(KeyboardInterrupt), agreed({"info_nce": "torch", "contrastive_terms": "cpu"}):
            assert chosen() == ["torch", "cpu"]
            raise KeyboardInterrupt
        assert chosen() == ["cpu", "torch"]
    assert chosen() == ["torch", "torch"]


def test_the_description_shows_the_figures_and_since_when_they_hold(
    compiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = (
        "cpu 2.00 ms, blas 1.80 ms, torch 1.50 ms (384 x 384 of width 384, 2 threads, measured 2026-01-31 12:00 UTC)"
    )
    assert describe()[2] == ("info_nce, cpu tensors", "torch", expected)
    monkeypatch.setattr(trial, "_remembered", {})
    monkeypatch.setattr(trial, "measure", lambda *names: replace(_torch_is_faster(*names), clear=False))
    choice = describe()[2]
    assert choice.backend == "cpu"
    assert "too busy to tell" in choice.reason
