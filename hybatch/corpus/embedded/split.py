"""Which facts are held out: of a share of the entities one fact each, the relation changing from entity to entity.

So evaluation asks for facts never trained on, while every entity it asks about keeps at least two facts in training
and every relation is trained on other entities.
"""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import groupby

from hybatch.corpus.embedded.facts import Fact, load_facts

HELD_OUT_PER_TEN = 7
MIN_FACTS = 3


def choose(key: str, count: int) -> int:
    """A number in [0, count) that depends on the key alone: the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % count


@cache
def held_out_facts() -> tuple[Fact, ...]:
    """The facts of the evaluation part, at most one per entity, in the order of `load_facts`."""
    held_out = []
    for _, group in groupby(load_facts(), key=lambda fact: fact.entity.kind):
        entities = [list(facts) for _, facts in groupby(group, key=lambda fact: fact.entity.key)]
        askable = [facts for facts in entities if len(facts) >= MIN_FACTS]
        for number, facts in enumerate(askable):
            if number % 10 < HELD_OUT_PER_TEN:
                held_out.append(facts[number % len(facts)])
    return tuple(held_out)


@cache
def training_facts() -> tuple[Fact, ...]:
    """All other facts, in the order of `load_facts`."""
    held_out = {fact.key for fact in held_out_facts()}
    return tuple(fact for fact in load_facts() if fact.key not in held_out)
