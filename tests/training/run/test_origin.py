"""What the cards of a run's encoders say, and what they keep to themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hybatch.corpus import CorpusConfig
from hybatch.losses.contrastive import ContrastiveConfig
from hybatch.losses.false_negatives import FilterConfig
from hybatch.models import EncoderConfig, FreshBackboneConfig
from hybatch.models.card import CARD, Origin
from hybatch.sampling import SamplingConfig, ShareSchedule
from hybatch.train import main
from hybatch.training.config import RunConfig, TrainingConfig
from hybatch.training.run.origin import run_origin
from tests.training.small_run import write_config

CORPORA = [CorpusConfig(path="/home/somebody/secret/faq", weight=2), CorpusConfig(path="them/pairs", split="dev")]


def _config(**options: Any) -> RunConfig:
    model = EncoderConfig(backbone="/home/somebody/secret/multilingual-e5-small", dropout=0.0)
    return RunConfig(**{"output_dir": "/home/somebody/runs/one", "corpora": CORPORA, "model": model, **options})


def _origin(config: RunConfig, step: int = 7) -> Origin:
    return run_origin(config, names=["faq", "pairs"], languages=("de", "en"), step=step)


def test_where_files_are_and_how_the_work_is_shared_changes_nothing() -> None:
    one = _config()
    moved = [replace(CORPORA[0], path="/data/faq"), CORPORA[1]]
    other = _config(
        output_dir="/scratch/two",
        corpora=moved,
        model=replace(one.model, backbone="/models/multilingual-e5-small", unpad="never", gradient_checkpointing=True),
        loss=ContrastiveConfig(gather="ring"),
        training=TrainingConfig(chunk_size=4, strategy="zero3", threads=7, keep_checkpoints=9),
    )
    assert _origin(one) == _origin(other)


def test_nothing_in_it_is_a_path_of_this_machine() -> None:
    guided = ContrastiveConfig(guide="/home/somebody/secret/teacher", filter=FilterConfig(by="guide", margin=0.1))
    text = repr(_origin(_config(loss=guided)))
    assert "somebody" not in text
    assert "secret" not in text
    assert "guide teacher" in text


def test_data_of_the_hub_are_named_by_their_ids_and_folders_by_their_last_part() -> None:
    origin = _origin(_config())
    assert origin.datasets == ["them/pairs"]
    assert origin.data == [("faq", "weight 2"), ("pairs", "them/pairs, split dev")]


@pytest.mark.parametrize(
    ("sampling", "batches"),
    [
        (SamplingConfig(kind="x-y"), "X-Y"),
        (SamplingConfig(alpha=0.25), "hybrid: X-X-mono 0.25, X-Y 0.75"),
        (
            SamplingConfig(alpha=ShareSchedule(start=0, end=1, shape="cosine")),
            "hybrid: X-X-mono 0 to 1 (cosine), X-Y 1 to 0 (cosine)",
        ),
        (SamplingConfig(kind="sequential", share=0.3), "sequential: X-X-mono 0.3, X-Y 0.7"),
    ],
)
def test_the_batches_are_told_with_their_shares(sampling: SamplingConfig, batches: str) -> None:
    assert dict(_origin(_config(sampling=sampling)).recipe)["batches"] == batches


def test_what_differs_from_the_defaults_is_in_the_recipe() -> None:
    config = _config(loss=ContrastiveConfig(temperature=0.02, symmetric=True), seed=5)
    recipe = dict(_origin(config).recipe)
    assert recipe["loss"] == "contrastive, temperature 0.02, symmetric True"
    assert recipe["encoder"] == "dropout 0"
    assert recipe["seed"] == "5"


def test_weights_that_are_not_trained_yet_have_no_recipe() -> None:
    fresh = EncoderConfig(fresh=FreshBackboneConfig(layers=1))
    origin = _origin(_config(model=fresh), step=0)
    assert origin.base is None
    assert not origin.recipe
    assert "drawn at random" in origin.made


def test_every_folder_of_a_run_has_a_card_that_says_after_which_step(tmp_path: Path) -> None:
    config = write_config(tmp_path, training={"steps": 4, "warmup_steps": 0}, validation={"every_steps": 2})
    assert main(["--config", str(config)]) == 0
    cards = {
        name: (tmp_path / "run" / name / CARD).read_text(encoding="utf-8") for name in ("initial", "best", "final")
    }
    assert "not trained on the data below" in cards["initial"]
    assert "after step 4 of 4" in cards["final"]
    assert "after step 2 of 4" in cards["best"] or "after step 4 of 4" in cards["best"]
    assert not any(str(tmp_path) in card for card in cards.values())
