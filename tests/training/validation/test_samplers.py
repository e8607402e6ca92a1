"""The batches that validation measures by the loss: of the kinds asked for, as far as the held-out data fill them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hybatch.errors import UserError
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.training.config import RunConfig, load_run_config
from hybatch.training.validation.measures import validation_samplers
from tests.sampling.corpora import FakeCorpus, fresh_folder, full_corpus
from tests.training.small_run import write_config


@pytest.fixture
def english_passages() -> FakeCorpus:
    """Questions in German and Greek, passages in English alone."""
    return FakeCorpus(
        fresh_folder(), languages=("de", "el", "en"), question_mask=[0b011] * 60, passage_mask=[0b100] * 60
    )


def _config(tmp_path: Path, **validation: Any) -> RunConfig:
    return load_run_config(["--config", str(write_config(tmp_path, validation=validation))])


def _batches(sampler: BatchSampler) -> list[tuple[str, list[int], list[int]]]:
    return [
        (batch.kind, batch.examples.tolist(), batch.passage_languages.tolist())
        for batch in map(sampler.batch, range(sampler.total_steps))
    ]


def test_by_default_the_batches_are_those_of_version_0_1_0(tmp_path: Path) -> None:
    corpora = [full_corpus(60, ("de", "en"))]
    samplers, left_out = validation_samplers(_config(tmp_path), corpora)
    assert not left_out
    for sampler, kind in zip(samplers, ("x-x-mono", "x-y"), strict=True):
        config = SamplingConfig(kind=kind, batch_size=16)
        alone = BatchSampler(corpora, config, seed=20240819, total_steps=2, progress=False)
        assert _batches(sampler) == _batches(alone)
        assert {batch[0] for batch in _batches(sampler)} == {kind}


def test_english_passages_alone_can_be_validated_on_by_their_own_kind(
    tmp_path: Path, english_passages: FakeCorpus
) -> None:
    samplers, left_out = validation_samplers(_config(tmp_path, kinds=["x-en"]), [english_passages])
    assert [batch[0] for sampler in samplers for batch in _batches(sampler)] == ["x-en"] * 2
    assert not left_out


def test_kinds_that_the_held_out_data_cannot_fill_are_said_and_none_at_all_is_refused(
    tmp_path: Path, english_passages: FakeCorpus
) -> None:
    samplers, left_out = validation_samplers(_config(tmp_path), [english_passages])
    assert [sampler.config.kind for sampler in samplers] == ["x-y"]
    assert [line.split(":")[0] for line in left_out] == ["validation has no x-x-mono batches"]
    with pytest.raises(UserError, match=r"name other validation\.kinds"):
        validation_samplers(_config(tmp_path, kinds=["en-x", "x-x-mono"]), [english_passages])
