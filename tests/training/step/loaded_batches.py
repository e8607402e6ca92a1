"""What a process is given for a step, as digests: `python -m tests.training.step.loaded_batches`."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from hybatch.models import Role
from hybatch.sampling import BatchSampler, SamplingConfig
from hybatch.training.step.batches import BatchLoader, LocalBatch
from hybatch.training.step.chunks import Cutting
from hybatch.training.strategy.text_chunk import Features
from tests.sampling.default_plans import corpora
from tests.training.tiny import tokenize

STEPS = 12

LOADERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "chunks": {"chunk_size": 3},
    "cuts that cost": {"chunk_cost": 4.0},
    "chunks and cuts that cost": {"chunk_size": 3, "chunk_cost": 4.0},
    "hard negatives": {"hard_negatives": 2},
    "hard negatives in chunks": {"hard_negatives": 2, "chunk_size": 5},
    "equal chunks": {"hard_negatives": 1, "equal_chunks": True},
    "second of two": {"hard_negatives": 1, "chunk_size": 2, "rank": 1, "world_size": 2},
    "another seed": {"hard_negatives": 1, "seed": 9},
}


def _tokenize(texts: list[str], role: Role) -> Features:
    """Tokens of texts that are unlike in length, as those of the corpora here are not."""
    return tokenize([" ".join([text] * (1 + zlib.crc32(text.encode()) % 6)) for text in texts], role)


def digest(options: dict[str, Any]) -> str:
    """Of tokens, masks, slots, seeds and groups of every step."""
    sampler = BatchSampler(corpora(), SamplingConfig(batch_size=8), seed=4, total_steps=STEPS, progress=False)
    how = {name: options[name] for name in options.keys() & Cutting.__dataclass_fields__.keys()}
    others = {name: value for name, value in options.items() if name not in how}
    loader = BatchLoader(sampler=sampler, tokenize=_tokenize, cutting=Cutting(**how), **others)
    return hashlib.sha256(json.dumps([_facts(loader.load(step)) for step in range(STEPS)]).encode()).hexdigest()[:32]


def _facts(local: LocalBatch) -> list[Any]:
    chunks = [
        [{name: chunk.features[name].tolist() for name in sorted(chunk.features)}, chunk.slots_n.tolist(), chunk.seed]
        for chunk in local.chunks
    ]
    negatives = None if local.negative_groups_QN is None else local.negative_groups_QN.tolist()
    return [local.batch.step, chunks, local.groups_Q.tolist(), negatives, local.num_tokens, local.num_padded]


if __name__ == "__main__":
    print(json.dumps({name: digest(options) for name, options in LOADERS.items()}, indent=1))
