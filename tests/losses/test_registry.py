"""A second loss: its options, its module and an entry in the registry are all that training asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from hybatch.cli import main as hybatch
from hybatch.errors import UserError
from hybatch.losses import LOSSES, ContrastiveConfig, Loss, LossConfig, share_of_batch_mean
from hybatch.options import limits
from hybatch.train import main as train
from hybatch.training.config import load_run_config
from tests.training.small_run import losses, write_config


@dataclass(kw_only=True)
class PullConfig(LossConfig):
    """A loss that pulls passages to their queries."""

    kind: str = "pull"
    """Which loss."""
    strength: float = field(default=1.0, metadata=limits(gt=0, le=10))
    """What the distance is multiplied with."""

    def build(self) -> Loss:
        def pull(
            queries_QH: Tensor,
            passages_QH: Tensor,
            negatives_QNH: Tensor | None = None,
            *,
            groups_Q: Tensor,
            negative_groups_QN: Tensor | None = None,
        ) -> Tensor:
            distances_Q = (queries_QH - passages_QH).square().sum(1)
            return share_of_batch_mean(self.strength * distances_Q.sum(), len(distances_Q))

        return pull


@pytest.fixture
def second_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "pull", PullConfig)


def _config(folder: Path, loss: dict[str, Any]) -> Path:
    """Of a run of two steps with these options of the loss and no others."""
    training = {"steps": 2, "checkpoint_every_steps": 1, "warmup_steps": 0}
    path = write_config(folder, training=training, validation={"every_steps": 1})
    config = yaml.safe_load(path.read_text(encoding="utf-8")) | {"loss": loss}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_is_registered_by_its_own_kind(kind: str) -> None:
    assert LOSSES[kind].kind == kind


@pytest.mark.usefixtures("second_loss")
def test_a_registered_loss_trains_validates_and_resumes_with_options_of_its_own(tmp_path: Path) -> None:
    path = _config(tmp_path, {"kind": "pull", "strength": 2.0})
    assert train(["--config", str(path)]) == 0
    values = [loss for _, loss in losses(tmp_path / "run")]
    assert len(values) == 2
    assert all(0 <= value <= 2 * 4 for value in values)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert written["loss"] == {"kind": "pull", "hard_negatives": 0, "strength": 2.0}
    # The same run by the configuration that it wrote; with another strength it is another run.
    again = ["--config", str(tmp_path / "run" / "config.yaml")]
    assert train(again) == 0
    assert train([*again, "--loss.strength", "3"]) == 2
    assert train([*again, "--output_dir", str(tmp_path / "double"), "--loss.strength", "4"]) == 0
    assert losses(tmp_path / "double")[0][1] == pytest.approx(2 * values[0], rel=1e-6)


@pytest.mark.usefixtures("second_loss")
def test_a_loss_has_its_own_options_and_no_others(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="temperature"):
        load_run_config(["--config", str(_config(tmp_path, {"kind": "pull", "temperature": 0.05}))])
    with pytest.raises(UserError, match="alignment"):
        load_run_config(["--config", str(_config(tmp_path, {"kind": "pull", "alignment": {"kind": "jsd"}}))])
    with pytest.raises(UserError, match=r"loss\.strength is 11\.0: it must be a number greater than 0 and at most 10"):
        load_run_config(["--config", str(_config(tmp_path, {"kind": "pull", "strength": 11}))])


@pytest.mark.usefixtures("second_loss")
@pytest.mark.parametrize("section", ["--loss.kind=pull", "--loss={kind: pull}", "--loss  FILE"])
def test_the_kind_is_found_wherever_options_may_be_given(section: str, tmp_path: Path) -> None:
    file = tmp_path / "loss.yaml"
    file.write_text("kind: pull\n", encoding="utf-8")
    recipe = ["--output_dir", "x", "--corpora", "[{path: embedded}]", "--model.backbone", "labse"]
    given = section.replace("FILE", str(file)).split("  ")
    assert isinstance(load_run_config([*recipe, *given]).loss, PullConfig)
    assert isinstance(load_run_config([*recipe, *given, "--loss.kind", "contrastive"]).loss, ContrastiveConfig)


@pytest.mark.usefixtures("second_loss")
def test_memory_is_planned_for_a_loss_that_says_nothing_of_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = _config(tmp_path, {"kind": "pull"})
    assert hybatch(["plan", "--config", str(config)]) == 0
    assert "activations" in capsys.readouterr().out


def test_an_unknown_kind_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss\.kind is 'triplet': it must be one of contrastive"):
        load_run_config(["--config", str(write_config(tmp_path)), "--loss.kind", "triplet"])
    with pytest.raises(
        UserError, match=r"loss\.kind is 'triplet', but ContrastiveConfig has the options of contrastive"
    ):
        ContrastiveConfig(kind="triplet")


def test_the_value_handed_over_averages_to_the_mean_of_the_batch() -> None:
    rows_WQ = torch.rand(3, 4, dtype=torch.float64)
    shares = [share_of_batch_mean(rows_Q.sum(), len(rows_Q)) for rows_Q in rows_WQ]
    assert torch.stack(shares).mean().item() == pytest.approx(rows_WQ.mean().item(), rel=1e-12)
