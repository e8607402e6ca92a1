"""Prompts of a data set stand before its texts, in training and in validation, and are saved under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig
from hybatch.models.folder.prompts import PROMPTS
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.train import main
from hybatch.training.preview import main as preview
from hybatch.training.prompts import saved_prompts
from hybatch.training.step.batches import BatchLoader
from tests.sampling.corpora import full_corpus
from tests.training.small_run import read_metrics, write_config, write_corpus
from tests.training.tiny import tokenize

OWN = {"query_prefix": "ask: ", "passage_prefix": "tell: "}


def _figures(run: Path) -> list[dict[str, Any]]:
    """What was measured, without times."""
    kept = ("step", "loss", "grad_norm")
    return [
        {name: value for name, value in row.items() if name in kept or name.startswith("validation")}
        for row in read_metrics(run)
    ]


@pytest.mark.parametrize("metric", ["loss", "map"])
def test_a_run_on_corpora_with_prompts_is_one_of_an_encoder_with_these_prefixes(metric: str, tmp_path: Path) -> None:
    short = {"steps": 4, "checkpoint_every_steps": 4}
    for name in ("corpora", "model"):
        places = [{"path": str(write_corpus(tmp_path / "train"))}]
        held_out = [{"path": str(write_corpus(tmp_path / "held-out", first=140, examples=60))}]
        own: dict[str, Any] = OWN if name == "model" else {}
        if name == "corpora":
            places, held_out = ([{**one, **OWN} for one in listed] for listed in (places, held_out))
        (tmp_path / name).mkdir()
        config = write_config(
            tmp_path / name,
            corpora=places,
            model=own,
            training=short,
            validation={"corpora": held_out, "every_steps": 2, "metric": metric},
        )
        assert main(["--config", str(config)]) == 0
    figures = _figures(tmp_path / "corpora" / "run")
    assert figures == _figures(tmp_path / "model" / "run")
    assert any("validation" in name for row in figures for name in row)
    final = tmp_path / "corpora" / "run" / "final"
    prompts = json.loads((final / PROMPTS).read_text(encoding="utf-8"))["prompts"]
    own_names = {"query": "Query: ", "passage": "Passage: ", "document": "Passage: "}
    assert prompts == own_names | {"train.query": "ask: ", "train.passage": "tell: "}
    assert Encoder.load(final).prompts == {"train.query": "ask: ", "train.passage": "tell: "}
    assert Encoder.load(tmp_path / "model" / "run" / "final").prompts == {}


def test_each_data_set_s_texts_have_its_own_prompt() -> None:
    corpora = full_corpus(64, ("de", "en"), name="a"), full_corpus(64, ("de", "en"), name="b")
    sampler = BatchSampler(corpora, SamplingConfig(batch_size=8), seed=0, total_steps=12, progress=False)
    heard: list[tuple[str, int]] = []

    def listening(name: str) -> Any:
        return lambda texts, role: heard.append((name, len(texts))) or tokenize(texts, role)

    loader = BatchLoader(sampler=sampler, tokenize=listening("plain"), tokenize_of={1: listening("own")})
    datasets = set()
    for step in range(12):
        heard.clear()
        dataset = loader.load(step).batch.dataset
        datasets.add(dataset)
        assert heard == [("own" if dataset == 1 else "plain", 8)] * 2
    assert datasets == {0, 1}


def test_a_side_that_a_data_set_says_nothing_of_has_the_model_s_prefix() -> None:
    model = EncoderConfig(backbone="labse", query_prefix="q ", passage_prefix="p ")
    corpora = [CorpusConfig(path="a", query_prefix=""), CorpusConfig(path="b")]
    assert saved_prompts(model, corpora, ["a", "b"]) == {"a.query": "", "a.passage": "p "}


def test_two_data_sets_of_one_name_cannot_have_different_prompts() -> None:
    model = EncoderConfig(backbone="labse")
    corpora = [CorpusConfig(path="x/a", query_prefix="one: "), CorpusConfig(path="y/a", query_prefix="two: ")]
    with pytest.raises(UserError, match="corpora: two are called a"):
        saved_prompts(model, corpora, ["a", "a"])
    assert saved_prompts(model, corpora[:1] * 2, ["a", "a"])["a.query"] == "one: "


def test_a_prompt_that_leaves_no_room_is_refused_before_the_run(tmp_path: Path) -> None:
    corpora = [{"path": str(write_corpus(tmp_path / "train")), "query_prefix": "seven " * 80}]
    config = write_config(tmp_path, corpora=corpora)
    with pytest.raises(UserError, match=r"corpora\.0 has prefixes of its own: .* leave 0 for the text"):
        preview(["--config", str(config), "--steps", "1"])
