"""On the real training sets: sound batches of every kind, and the exclusions that the data call for."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.corpus import CorpusConfig, ParallelCorpus, open_corpus
from hybatch.sampling import COMPOSITIONS, KINDS, BatchSampler, SamplingConfig, summarise
from tests.sampling.test_sampler import assert_is_sound

pytestmark = pytest.mark.data

NAMES = ("bible", "courses", "lexicon", "mlqa-test", "news", "newstest", "sentences", "xnli")


@pytest.fixture(scope="module")
def corpora(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[ParallelCorpus]:
    cache = tmp_path_factory.mktemp("corpora")
    configs = [CorpusConfig(path=str(data_dir / "train" / name)) for name in NAMES]
    return [open_corpus(config, cache_dir=cache, progress=False) for config in configs]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, *COMPOSITIONS])
def test_batches_of_the_real_training_sets_are_sound(corpora: list[ParallelCorpus], kind: str) -> None:
    config = SamplingConfig(kind=kind, batch_size=256, exclude_languages=["el", "vi"])
    sampler = BatchSampler(corpora, config, seed=0, total_steps=60, progress=False)
    for step in range(60):
        assert_is_sound(sampler, sampler.batch(step))


@pytest.mark.slow
def test_too_small_cells_of_the_real_sets_are_excluded_and_every_language_is_still_drawn(
    corpora: list[ParallelCorpus],
) -> None:
    sampler = BatchSampler(corpora, SamplingConfig(batch_size=100), seed=0, total_steps=2000, progress=False)
    assert [(cell.dataset, cell.kind, cell.language, cell.num_groups) for cell in sampler.excluded] == [
        # These hold questions only, their passages stand under other languages.
        ("mlqa-test", "x-x-mono", "ar", 0),
        ("mlqa-test", "x-x-mono", "hi", 0),
        ("sentences", "x-x-mono", "th", 70),
    ]
    assert sampler.excluded[-1].reason.startswith("74 usable examples have only 70 distinct passages")
    summary = summarise(sampler, map(sampler.batch, range(100)))
    assert set(summary.question_shares) == {"ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"}
    # Passages under several ids displace a few examples; they stay few.
    assert summary.displaced < 0.05 * summary.drawn_examples
    assert summary.spilled < 0.01 * summary.drawn_examples
