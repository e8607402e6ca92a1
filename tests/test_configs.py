"""The recipes that the repository ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hybatch.training.config import load_run_config
from hybatch.training.run_folder import differing_fields

CONFIGS = Path(__file__).parent.parent / "configs"
RIVALS = sorted((CONFIGS / "rivals").glob("*.yaml"))


@pytest.fixture(autouse=True)
def any_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_DATA_DIR", "data")


@pytest.mark.parametrize("rival", RIVALS, ids=lambda path: path.stem)
def test_a_rival_differs_from_its_base_recipe_by_its_sampling_alone(rival: Path) -> None:
    base = ["--config", str(CONFIGS / "parallel-small.yaml")]
    before, after = load_run_config(base), load_run_config([*base, "--config", str(rival)])
    assert all(line.startswith("sampling.") for line in differing_fields(before.as_dict(), after.as_dict()))
    assert after.sampling.batch_size == before.sampling.batch_size
    assert after.sampling.kind == yaml.safe_load(rival.read_text())["sampling"]["kind"]


def test_every_kind_of_batch_has_a_rival_recipe() -> None:
    kinds = {yaml.safe_load(path.read_text())["sampling"]["kind"] for path in RIVALS}
    assert kinds == {"hybrid", "x-x-mono", "x-y", "x-x", "en-en", "sequential"}
