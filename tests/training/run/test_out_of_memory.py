"""A step, or a validation, that does not fit into memory ends with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybatch.train import main
from hybatch.training.step.engine import StepEngine
from hybatch.training.validation.measures import LossValidation
from tests.training.small_run import losses, write_config

SHORT = {"steps": 4, "checkpoint_every_steps": 2}
_FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB"


def _failing_at(call: int, error: RuntimeError, works):  # type: ignore[no-untyped-def]
    calls = iter(range(1, 1000))

    def method(self, *arguments):  # type: ignore[no-untyped-def]
        if next(calls) == call:
            raise error
        return works(self, *arguments)

    return method


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(_FULL), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12 bytes")]
)
def test_a_step_without_memory_names_the_option_and_the_run_goes_on_with_it(
    error: RuntimeError, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, training=SHORT, validation={"corpora": []})
    with monkeypatch.context() as patch:
        patch.setattr(StepEngine, "step", _failing_at(4, error, StepEngine.step))
        assert main(["--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert f"step 4 does not fit into the memory of process 0 ({error})" in said
    assert "give or lower training.chunk_size or training.chunk_tokens, with which this run may go on" in said
    assert main(["--config", str(config), "--training.chunk_size", "4"]) == 0
    assert [step for step, _ in losses(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_validation_without_memory_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, training=SHORT, validation={"every_steps": 2})
    failing = _failing_at(1, torch.OutOfMemoryError(_FULL), LossValidation.measure)
    monkeypatch.setattr(LossValidation, "measure", failing)
    assert main(["--config", str(config)]) == 2
    assert "the validation after step 2 does not fit into the memory" in (said := capsys.readouterr().err)
    assert "give or lower training.chunk_size or training.chunk_tokens, with" in said


def test_another_error_of_a_step_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path, training=SHORT, validation={"corpora": []})
    monkeypatch.setattr(StepEngine, "step", _failing_at(1, RuntimeError("shape mismatch"), StepEngine.step))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        main(["--config", str(config)])
