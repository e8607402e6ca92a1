"""Code that somebody planted in a checkpoint does not run."""

from __future__ import annotations

import os
import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from hybatch.errors import UserError
from hybatch.training.strategy.planted_code import check_shards, tensors_only
from tests.training.strategy.planted import Planted


@pytest.fixture(params=["", "enumerations as Python 3.11.2 pickles them"], autouse=True)
def pickles_enumerations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(Enum, "__reduce_ex__", lambda self, protocol: (getattr, (type(self), self.name)))


class Looked:
    """Looks an attribute up as it is unpickled."""

    def __init__(self, owner: Any, name: str) -> None:
        self.what = (owner, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.what


@pytest.mark.parametrize("name", ["__class__", "mro", "absent"])
def test_an_attribute_that_is_no_member_of_an_enumeration_is_not_looked_up(name: str, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.config import ZeroStageEnum

    message = r"planted there: it names builtins\.getattr of what is no enumeration"
    for kind in (torch.Size, ZeroStageEnum):
        torch.save({"more": Looked(kind, name)}, tmp_path / "bad.pt")
        with pytest.raises(UserError, match=message), tensors_only(tmp_path):
            torch.load(tmp_path / "bad.pt", weights_only=False)
    for kind in (torch.Size, _MEM_FORMAT_ENCODING):
        (tmp_path / ".metadata").write_bytes(pickle.dumps(Looked(kind, name)))
        with pytest.raises(UserError, match=message):
            check_shards(tmp_path)


def test_every_load_reads_tensors_and_what_zero_keeps_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"weights": torch.ones(2), "scale": LossScaler(1.0), "stage": ZeroStageEnum(2)}, tmp_path / "good.pt")
    torch.save({"weights": torch.ones(2), "more": Planted(tmp_path / "ran")}, tmp_path / "bad.pt")
    with tensors_only(tmp_path):
        # As DeepSpeed loads: asking for everything.
        good = torch.load(tmp_path / "good.pt", weights_only=False)
    assert good["stage"] == 2
    named = r"may be code that somebody planted there: it names posix\.mkdir"
    with pytest.raises(UserError, match=named), tensors_only(tmp_path):
        torch.load(tmp_path / "bad.pt", weights_only=False)
    assert not (tmp_path / "ran").exists()
    # Afterwards loads are as they were.
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_the_list_of_shards_names_nothing_but_what_torch_writes(tmp_path: Path) -> None:
    dcp.save({"weights": {"a": torch.ones(3)}, "step": torch.tensor(1.0)}, checkpoint_id=tmp_path, no_dist=True)
    check_shards(tmp_path)
    path = tmp_path / ".metadata"
    with open(path, "rb") as file:
        content = pickle.load(file)
    content.planner_data = Planted(tmp_path / "ran")
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"\.metadata holds what no checkpoint of hybatch does.*posix\.mkdir"):
        check_shards(tmp_path)
    assert not (tmp_path / "ran").exists()
    path.write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="damaged"):
        check_shards(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="damaged"):
        check_shards(tmp_path)
