"""What `auto` stands for: figures in the cache folder, and one answer for all processes of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from hybatch import backends
from hybatch.backends import MEASURED, agree_on_backends, recall_all_figures, recall_figures
from hybatch.errors import UserError
from hybatch.ops import backend as ops_backend
from hybatch.ops import trial as trials
from hybatch.ops.trial import Figures, Trial
from tests.processes import run_processes

CPU = torch.device("cpu")
ALL = ("cpu", "blas", "torch")
TRIAL = MEASURED["info_nce"]


def _figures(cpu: float, torch_: float, *, clear: bool = True) -> Figures:
    return Figures({"cpu": cpu, "blas": 3.0, "torch": torch_}, clear, "2026-01-31 12:00", torch.get_num_threads())


class Stopwatch:
    """Takes the place of measuring; `figures` is what it finds next."""

    def __init__(self) -> None:
        self.figures = _figures(2.0, 1.0)
        self.asked = 0

    def __call__(self, trial: Trial, backends: Sequence[str]) -> Figures:
        self.asked += 1
        return self.figures


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of an otherwise new process."""
    monkeypatch.setenv("HYBATCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HYBATCH_BACKEND", raising=False)
    monkeypatch.setattr(trials, "_remembered", {})
    return tmp_path / "cache" / "backends"


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    """With compiled ops, so to speak, wherever the tests run, and on a processor where `cpu` is preferred."""
    stopwatch = Stopwatch()
    monkeypatch.setattr(ops_backend, "_our_products_lead", lambda processor: True)
    monkeypatch.setattr(trials, "measure", stopwatch)
    monkeypatch.setattr(ops_backend, "why_missing", lambda *names: None)
    monkeypatch.setattr(backends, "why_missing", lambda *names: None)
    return stopwatch


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the process as new."""
    return lambda: monkeypatch.setattr(trials, "_remembered", {})


def test_figures_are_measured_once_on_a_machine(cache: Path, stopwatch: Stopwatch, forget: Callable[[], None]) -> None:
    first = recall_figures(TRIAL, ALL)
    assert recall_figures(TRIAL, ALL) == first == stopwatch.figures
    forget()
    assert recall_figures(TRIAL, ALL) == first
    assert stopwatch.asked == 1
    assert ops_backend.choose_backend(CPU, family="contrastive", trial=TRIAL) == "torch"
    assert stopwatch.asked == 1


def test_another_processor_torch_build_or_number_of_threads_has_figures_of_its_own(
    cache: Path, stopwatch: Stopwatch, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[tuple[object, str, object]] = [
        (backends, "processor_facts", lambda: {"model name": "another"}),
        (backends, "library_stamps", lambda names: {"cpu": (1, 2)}),
        (torch, "get_num_threads", lambda: 77),
        (torch, "__version__", "99.0"),
        (backends, "__version__", "99.0"),
    ]
    recall_figures(TRIAL, ALL)
    for place, name, value in changes:
        with monkeypatch.context() as changed:
            changed.setattr(place, name, value)
            forget()
            recall_figures(TRIAL, ALL)
    assert stopwatch.asked == len(list(cache.iterdir())) == 1 + len(changes)
    forget()
    recall_figures(TRIAL, ALL)
    assert stopwatch.asked == 1 + len(changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"seconds": {}}', '{"seconds": {"cpu": "x"}}', "\x00", None])
def test_a_damaged_file_is_measured_anew_and_mended(
    text: str | None, cache: Path, stopwatch: Stopwatch, forget: Callable[[], None]
) -> None:
    recall_figures(TRIAL, ALL)
    (file,) = cache.iterdir()
    if text is None:
        told = json.loads(file.read_text())
        text = json.dumps(told | {"seconds": told["seconds"] | {"cpu": float("nan")}})
    file.write_text(text)
    forget()
    assert recall_figures(TRIAL, ALL) == stopwatch.figures
    forget()
    assert recall_figures(TRIAL, ALL) == stopwatch.figures
    assert stopwatch.asked == 2


def test_a_cache_that_cannot_be_written_costs_a_measurement_and_nothing_else(
    cache: Path, stopwatch: Stopwatch, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert recall_figures(TRIAL, ALL) == stopwatch.figures

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    forget()
    monkeypatch.setattr(backends, "cache_directory", homeless)
    assert recall_figures(TRIAL, ALL) == stopwatch.figures


def test_figures_of_a_busy_machine_are_not_kept(cache: Path, stopwatch: Stopwatch, forget: Callable[[], None]) -> None:
    stopwatch.figures = _figures(2.0, 1.0, clear=False)
    assert recall_figures(TRIAL, ALL).fastest() == "cpu"
    forget()
    stopwatch.figures = _figures(2.0, 1.0)
    assert recall_figures(TRIAL, ALL).fastest() == "torch"


def test_nothing_is_measured_where_the_environment_decides(
    cache: Path, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    recall_all_figures()
    assert set(agree_on_backends(CPU).values()) == {"cpu"}
    assert stopwatch.asked == 0
    monkeypatch.setenv("HYBATCH_BACKEND", "auto")
    recall_all_figures()
    assert stopwatch.asked == len(MEASURED)


def test_a_run_begins_with_the_fastest_and_goes_on_with_what_it_began_with(
    cache: Path, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(agree_on_backends(CPU).values()) == {"torch"}
    assert agree_on_backends(CPU, {"info_nce": "cpu", "contrastive_terms": "torch"}) == {
        "info_nce": "cpu",
        "contrastive_terms": "torch",
    }
    monkeypatch.setenv("HYBATCH_BACKEND", "torch")
    assert agree_on_backends(CPU, {"info_nce": "cpu"})["info_nce"] == "torch"


@pytest.mark.parametrize("ours", [True, False])
def test_a_run_from_before_there_was_a_choice_goes_on_with_the_compiled_ops(
    ours: bool, cache: Path, stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_backend, "_our_products_lead", lambda processor: ours)
    assert set(agree_on_backends(CPU, {}).values()) == {"cpu"}
    assert stopwatch.asked == 0


def test_a_run_whose_backend_is_gone_goes_on_with_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops_backend, "_load", lambda name: "not here")
    assert set(agree_on_backends(CPU, {"info_nce": "cpu", "contrastive_terms": "cpu"}).values()) == {"torch"}


def test_a_backend_that_is_asked_for_and_missing_is_an_error_of_the_user(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_backend, "_load", lambda name: "not here")
    monkeypatch.setenv("HYBATCH_BACKEND", "cpu")
    with pytest.raises(UserError, match="HYBATCH_BACKEND=cpu: this backend is missing: not here"):
        agree_on_backends(CPU)
    monkeypatch.setenv("HYBATCH_BACKEND", "gpu")
    with pytest.raises(UserError, match="HYBATCH_BACKEND=gpu: no such backend"):
        agree_on_backends(CPU)


def _agreement_of_unlike_processes(folder: str) -> list[object]:
    """What processes agree on whose machines are unlike: by figures, by what one of them lacks, by environments."""
    rank = torch.distributed.get_rank()
    patch = pytest.MonkeyPatch()
    patch.setenv("HYBATCH_CACHE_DIR", f"{folder}/{rank}")
    patch.setattr(ops_backend, "_load", lambda name: None)
    patch.setattr(ops_backend, "_has_kernel", lambda *names: True)
    patch.setattr(trials, "measure", lambda *names: _figures(1.0, 2.0) if rank else _figures(2.0, 1.0))
    answers: list[object] = [agree_on_backends(CPU)]
    answers.append(agree_on_backends(CPU, {"info_nce": "cpu", "contrastive_terms": "torch"}))
    patch.setenv("HYBATCH_BACKEND", "torch" if rank else "cpu")
    answers.append(agree_on_backends(CPU))
    if rank:
        patch.setattr(ops_backend, "_load", lambda name: "not on this machine")
    try:
        agree_on_backends(CPU)
    except UserError as error:
        answers.append(str(error))
    patch.delenv("HYBATCH_BACKEND")
    answers.append(agree_on_backends(CPU, {"info_nce": "cpu"}))
    return answers


def test_processes_on_unlike_machines_agree_on_what_the_first_decides_and_all_have(tmp_path: Path) -> None:
    first, second = run_processes(_agreement_of_unlike_processes, 2, str(tmp_path))
    assert first == second
    by_figures, begun, forced, missing, common = first
    assert set(by_figures.values()) == {"torch"}
    assert begun == {"info_nce": "cpu", "contrastive_terms": "torch"}
    assert set(forced.values()) == {"cpu"}
    assert missing == "HYBATCH_BACKEND=cpu: this backend is missing: not on this machine"
    assert set(common.values()) == {"torch"}
