"""The batches of every kind of sampling over small corpora, as digests: `python -m tests.sampling.default_plans`."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

from hybatch.sampling import BatchSampler, SamplingConfig, ShareSchedule
from tests.sampling.corpora import FakeCorpus, fresh_folder

SEEDS = (0, 1, 20_240_229)
STEPS = 60

KINDS: dict[str, dict[str, Any]] = {
    "x-x-mono": {"kind": "x-x-mono"},
    "x-x": {"kind": "x-x"},
    "x-y": {"kind": "x-y"},
    "en-en": {"kind": "en-en"},
    "hybrid": {},
    "hybrid 0.25": {"kind": "hybrid", "alpha": 0.25},
    "hybrid 0": {"kind": "hybrid", "alpha": 0},
    "hybrid 1": {"kind": "hybrid", "alpha": 1},
    "hybrid linear": {"kind": "hybrid", "alpha": ShareSchedule(start=1, end=0)},
    "hybrid cosine": {"kind": "hybrid", "alpha": ShareSchedule(start=0.1, end=0.9, shape="cosine")},
    "sequential": {"kind": "sequential"},
    "sequential 0.3": {"kind": "sequential", "share": 0.3},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "": {},
    ", exponents 0.5 and 0.5": {"dataset_exponent": 0.5, "language_exponent": 0.5},
    ", exponents 0 and 1": {"dataset_exponent": 0.0, "language_exponent": 1.0},
    ", en fi de": {"languages": ["en", "fi", "de"]},
    ", without es": {"exclude_languages": ["es"], "batch_size": 5},
}


def _number(*key: object) -> int:
    """A number that looks random and is the same on every machine."""
    return zlib.crc32(repr(key).encode())


def corpora() -> list[FakeCorpus]:
    """Three data sets of other languages: whole; with gaps, groups and hard negatives; one small."""
    whole = [0b1111] * 90
    gaps = [[_number(part, row) % 32 | 1 << _number(row) % 5 for row in range(200)] for part in ("q", "p")]
    groups = [row // 7 if _number("group", row) % 4 == 0 else row + 1000 for row in range(200)]
    few = [0b111 if row % 3 else 0b011 for row in range(40)]
    return [
        FakeCorpus(
            fresh_folder(), name="whole", languages=("de", "en", "es", "fi"), question_mask=whole, passage_mask=whole
        ),
        FakeCorpus(
            fresh_folder(),
            name="gaps",
            languages=("ar", "de", "en", "es", "th"),
            question_mask=gaps[0],
            passage_mask=gaps[1],
            groups=groups,
            has_hard_negatives=True,
        ),
        FakeCorpus(fresh_folder(), name="few", languages=("en", "es", "fi"), question_mask=few, passage_mask=few),
    ]


def plans() -> Iterator[tuple[str, SamplingConfig]]:
    """Every kind with every way to weigh, by a name."""
    for kind, options in KINDS.items():
        for weights, more in WEIGHTS.items():
            yield kind + weights, SamplingConfig(**({"batch_size": 8} | options | more))


def digest(config: SamplingConfig, seed: int) -> str:
    """Of kind, data set, language, examples, languages and groups of every batch of a run."""
    sampler = BatchSampler(corpora(), config, seed=seed, total_steps=STEPS, progress=False)
    rows = []
    for step in range(STEPS):
        batch = sampler.batch(step)
        arrays = (batch.examples, batch.question_languages, batch.passage_languages, batch.passage_groups)
        facts = [batch.step, batch.kind, batch.dataset, batch.language, batch.displaced, batch.spilled]
        rows.append([*facts, *(array.tolist() for array in arrays)])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]


if __name__ == "__main__":
    print(json.dumps({name: [digest(config, seed) for seed in SEEDS] for name, config in plans()}, indent=1))
