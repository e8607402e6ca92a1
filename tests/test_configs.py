"""The recipes that the repository ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.models.config import check_config
from hybatch.sampling import COMPOSITIONS, KINDS, ShareSchedule
from hybatch.sampling.plan import phase_ends
from hybatch.training.config import load_run_config
from hybatch.training.run.run_folder import differing_fields

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPES = CONFIGS.parent / "study" / "recipes"
SAMPLERS = sorted((CONFIGS / "samplers").glob("*.yaml"))


@pytest.fixture(autouse=True)
def any_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBATCH_DATA_DIR", "data")


@pytest.mark.parametrize("rival", SAMPLERS, ids=lambda path: path.stem)
def test_a_rival_differs_from_its_base_recipe_by_its_sampling_and_what_follows_from_it(rival: Path) -> None:
    base = ["--config", str(CONFIGS / "parallel-small.yaml")]
    before, after = load_run_config(base), load_run_config([*base, "--config", str(rival)])
    names = [line.split(":")[0] for line in differing_fields(before.as_dict(), after.as_dict())]
    assert {name for name in names if not name.startswith("sampling.")} <= {"validation.select_after_share"}
    assert after.sampling.batch_size == before.sampling.batch_size
    assert after.sampling.kind == yaml.safe_load(rival.read_text())["sampling"]["kind"]


def test_the_adapter_s_recipe_freezes_the_backbone_of_any_other_and_raises_its_learning_rate() -> None:
    base = ["--config", str(CONFIGS / "labse-hybrid.yaml")]
    before, after = (
        load_run_config([*base, *more]) for more in ([], ["--config", str(CONFIGS / "adapters/lora.yaml")])
    )
    check_config(after.model)
    names = {line.split(":")[0] for line in differing_fields(before.as_dict(), after.as_dict())}
    lora = {f"model.lora.{one}" for one in ("rank", "alpha", "dropout", "targets")}
    assert names == {"model.lora", *lora, "training.learning_rate"}
    assert after.training.learning_rate > 5 * before.training.learning_rate


def test_every_kind_of_batch_has_a_rival_recipe() -> None:
    kinds = {yaml.safe_load(path.read_text())["sampling"]["kind"] for path in SAMPLERS}
    assert kinds == {*KINDS, *COMPOSITIONS}


def test_the_best_encoder_of_the_sequential_rival_is_one_of_its_second_phase() -> None:
    options = ["--config", str(CONFIGS / "parallel-small.yaml"), "--config", str(CONFIGS / "samplers/sequential.yaml")]
    config = load_run_config([*options, "--training.steps", "301"])
    assert config.select_from_step() == phase_ends(config.sampling, 301)[0][1] + 1 == 152


def test_the_scheduled_rival_goes_from_monolingual_to_cross_lingual_batches_along_a_line() -> None:
    options = ["--config", str(CONFIGS / "parallel-small.yaml")]
    config = load_run_config([*options, "--config", str(CONFIGS / "samplers/hybrid-scheduled.yaml")])
    assert config.sampling.alpha == ShareSchedule(start=1.0, end=0.0, shape="linear")


@pytest.mark.parametrize(
    ("recipe", "start"),
    [
        ("recipe", "mini-xlmr"),
        ("recipe", "mini-labse"),
        ("recipe", "scratch"),
        ("recipe-large", "xlmr-large"),
        ("recipe-large", "labse"),
    ],
)
def test_a_start_of_the_study_changes_the_model_and_at_most_the_learning_rate_of_its_recipe(
    recipe: str, start: str
) -> None:
    base = ["--config", str(RECIPES / f"{recipe}.yaml")]
    before, after = load_run_config([*base]), load_run_config([*base, "--config", str(RECIPES / f"{start}.yaml")])
    check_config(after.model)
    changed = {line.split(":")[0] for line in differing_fields(before.as_dict(), after.as_dict())}
    assert {name for name in changed if not name.startswith("model.")} <= {"training.learning_rate"}
    assert (after.validation.metric, after.validation.patience) == ("loss", None)


def test_the_fresh_start_of_the_study_is_what_its_backbone_was_before_pretraining() -> None:
    pretraining = yaml.safe_load((RECIPES / "backbone-mini-xlmr.yaml").read_text(encoding="utf-8"))
    scratch = yaml.safe_load((RECIPES / "scratch.yaml").read_text(encoding="utf-8"))
    assert scratch["model"]["fresh"] == pretraining["fresh"]


def test_the_second_backbone_starts_from_the_first_and_ranks_translations() -> None:
    config = load_run_config(["--config", str(RECIPES / "backbone-mini-labse.yaml")])
    check_config(config.model)
    assert config.model.backbone == "$HYBATCH_BACKBONES/mini-xlmr"
    assert config.sampling.kind == "x-y"
    for corpus in config.corpora:
        assert corpus.columns == {"id": "id", "question": "passage", "passage": "passage"}


def test_unseen_languages_are_left_out_of_training_and_of_choosing_the_encoder() -> None:
    base = ["--config", str(RECIPES / "recipe.yaml")]
    config = load_run_config([*base, "--config", str(RECIPES / "without-el-vi.yaml")])
    assert config.validation.languages is not None
    assert set(TASKS["xquad-r"].languages) - set(config.validation.languages) == {"el", "vi"}
    assert config.sampling.exclude_languages == ["el", "vi"]
