"""What is kept out of the softmax against its definition, and its equality over processes, tiles and ways to gather.

Shape suffixes: Q queries, N hard-negative slots, D candidates, H embedding width, G the guide's.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybatch.errors import UserError
from hybatch.losses import (
    EMPTY_SLOT,
    AlignmentConfig,
    ContrastiveConfig,
    ContrastiveInputs,
    ContrastiveLoss,
    FilterConfig,
    GuideVectors,
    LossTerms,
    Translations,
    false_negatives,
)
from hybatch.losses.false_negatives import Judged, keep_out
from hybatch.ops.contrastive import unpack_pairs
from hybatch.ops.ranking.fixed_point import leading_part
from tests.losses.batches import Batch, Share, assert_processes_agree, random_batch, side_by_side, unit_rows

_ROUNDING = 1e-5
"""More than float32 embeddings are off from the float64 ones that the oracle takes."""


@dataclass(frozen=True)
class Problem(Batch):
    """With vectors of a guide."""

    guide: GuideVectors


def _problem(seed: int, *, batch: int = 8, slots: int = 2, num_groups: int = 5) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    guide = GuideVectors(
        queries_QG=unit_rows(generator, batch, 5).float(),
        passages_QG=unit_rows(generator, batch, 5).float(),
        negatives_QNG=unit_rows(generator, batch, slots, 5).float(),
    )
    return Problem(
        **random_batch(generator, batch=batch, slots=slots, num_groups=num_groups),
        guide=guide if slots else dataclasses.replace(guide, negatives_QNG=None),
    )


def _taking_part(problem: Problem, rule: FilterConfig) -> tuple[np.ndarray, int]:
    """Bool [Q, D] straight from the definition, one pair after the other; how many the rule keeps out.

    No score may lie so near its limit that rounding decides.
    """
    queries, candidates = problem.queries.numpy(), problem.candidates.numpy()
    if rule.by == "guide":
        of_negatives = problem.guide.negatives_QNG
        others = [] if of_negatives is None else [of_negatives.flatten(0, 1)]
        queries = problem.guide.queries_QG.double().numpy()
        candidates = torch.cat([problem.guide.passages_QG, *others]).double().numpy()
    number, slots = len(queries), problem.negatives.shape[1]
    groups, kept_out = problem.candidate_groups.tolist(), 0
    part = np.zeros((number, len(candidates)), dtype=bool)
    for q, d in itertools.product(range(number), range(len(candidates))):
        if d == q:
            part[q, d] = True
            continue
        if groups[d] == EMPTY_SLOT or groups[d] == problem.groups[q]:
            continue
        positive, score = queries[q] @ candidates[q], queries[q] @ candidates[d]
        limit = positive + (rule.margin or 0) if rule.ratio is None else positive + (rule.ratio - 1) * abs(positive)
        assert abs(score - limit) > _ROUNDING
        own = d >= number and (d - number) // slots == q
        part[q, d] = score <= limit or (own and rule.spare_hard_negatives)
        kept_out += not part[q, d]
    return part, kept_out


def _oracle(problem: Problem, rule: FilterConfig, *, symmetric: bool, temperature: float) -> tuple[float, int]:
    """Mean loss of the whole batch in numpy float64, and the number of pairs kept out."""
    part, kept_out = _taking_part(problem, rule)
    logits = np.where(part, problem.queries.numpy() @ problem.candidates.numpy().T / temperature, -np.inf)
    own = np.arange(len(logits))
    loss = np.mean(np.logaddexp.reduce(logits, axis=1) - logits[own, own])
    if symmetric:
        columns = logits[:, : len(logits)]
        loss = (loss + np.mean(np.logaddexp.reduce(columns, axis=0) - logits[own, own])) / 2
    return float(loss), kept_out


RULES = [
    FilterConfig(margin=0.0),
    FilterConfig(margin=0.0, spare_hard_negatives=False),
    FilterConfig(ratio=0.8),
    FilterConfig(by="guide", ratio=1.3),
    FilterConfig(by="guide", ratio=0.7, spare_hard_negatives=False),
]


def _terms(problem: Problem, rows: slice, loss: ContrastiveLoss, leaves: list[Tensor], **given: Any) -> LossTerms:
    guide = problem.guide
    of_negatives = None if guide.negatives_QNG is None else guide.negatives_QNG[rows]
    assert loss.filter is not None
    own_guide = GuideVectors(
        queries_QG=guide.queries_QG[rows], passages_QG=guide.passages_QG[rows], negatives_QNG=of_negatives
    )
    by_guide = loss.filter.by == "guide"
    return loss.terms(**problem.compared(leaves, rows), guide=own_guide if by_guide else None, **given)


def _kept_out(terms: LossTerms) -> int:
    assert terms.kept_out is not None
    return int(terms.kept_out)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 11),
    slots=st.integers(0, 3),
    num_groups=st.integers(1, 12),
    rule=st.sampled_from(RULES),
    symmetric=st.booleans(),
    implementation=st.sampled_from(["dense", "streaming"]),
)
def test_the_loss_is_that_of_the_definition(
    seed: int, batch: int, slots: int, num_groups: int, rule: FilterConfig, symmetric: bool, implementation: Any
) -> None:
    problem = _problem(seed, batch=batch, slots=slots, num_groups=num_groups)
    try:
        expected, kept_out = _oracle(problem, rule, symmetric=symmetric, temperature=0.1)
    except AssertionError:
        return
    loss = ContrastiveLoss(temperature=0.1, symmetric=symmetric, implementation=implementation, filter=rule)
    found = _terms(problem, slice(None), loss, problem.leaves())
    assert found.loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert _kept_out(found) == kept_out


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_is_that_of_the_loss_over_what_is_left(rule: FilterConfig) -> None:
    problem = _problem(1, num_groups=50)
    loss = ContrastiveLoss(temperature=0.1, symmetric=True, implementation="streaming", filter=rule)
    leaves, exact = problem.leaves(), problem.leaves()
    part, kept_out = _taking_part(problem, rule)
    assert kept_out > 3
    logits = exact[0].double() @ torch.cat([exact[1], exact[2].flatten(0, 1)]).double().T / 0.1
    logits = logits.masked_fill(~torch.from_numpy(part), -math.inf)
    own = logits.diagonal()
    dense = ((logits.logsumexp(1) - own).mean() + (logits[:, :8].logsumexp(0) - own).mean()) / 2
    gradients = (
        torch.autograd.grad(total, of)
        for total, of in ((_terms(problem, slice(None), loss, leaves).loss, leaves), (dense, exact))
    )
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), side=st.sampled_from([8, 16, 24]), cuts=st.lists(st.integers(1, 39), max_size=3))
def test_a_decision_is_exact_and_does_not_depend_on_tiles_or_blocks_even_where_scores_tie_with_the_limit(
    seed: int, side: int, cuts: list[int]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct rows, so that many candidates score exactly what the positive does, in float32 of odd values.
    distinct = F.normalize(torch.randn(4, 24, generator=generator), dim=1)
    queries = F.normalize(torch.randn(9, 24, generator=generator), dim=1)
    candidates = distinct[torch.randint(0, 4, (40,), generator=generator)]
    rule = FilterConfig(margin=0.0)
    inputs = ContrastiveInputs(
        queries_QH=queries,
        candidates_DH=candidates,
        positive_index_Q=torch.arange(9),
        query_groups_Q=torch.arange(9),
        candidate_groups_D=torch.arange(40),
        temperature=1.0,
    )
    judged = Judged(queries, candidates[:9], candidates, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(false_negatives, "_TILE_SIDE", {"cpu": side})
        tiled, number = keep_out(inputs, judged, rule)
    assert tiled.left_out_QB is not None
    found = unpack_pairs(tiled.left_out_QB, slice(0, 40))
    assert int(number) == int(found.sum())
    exact = [[[Fraction(value) for value in row] for row in leading_part(of).tolist()] for of in (queries, candidates)]
    scores = [[sum(a * b for a, b in zip(q, d, strict=True)) for d in exact[1]] for q in exact[0]]
    assert found.tolist() == [[score > row[i] for score in row] for i, row in enumerate(scores)]
    borders = [0, *sorted(cuts), 40]
    for start, stop in itertools.pairwise(borders):
        block = dataclasses.replace(
            inputs, candidates_DH=candidates[start:stop], candidate_groups_D=torch.arange(start, stop),
            positive_index_Q=torch.full((9,), -1),
        )  # fmt: skip
        alone, _ = keep_out(block, dataclasses.replace(judged, all_candidates_DG=candidates[start:stop]), rule)
        assert alone.left_out_QB is not None
        own = torch.arange(9)[:, None] == torch.arange(start, stop)
        assert torch.equal(unpack_pairs(alone.left_out_QB, slice(0, stop - start)) & ~own, found[:, start:stop] & ~own)


Case = tuple[FilterConfig, int, bool, str]
CASES: list[Case] = [
    (rule, slots, symmetric, gather)
    for rule, (slots, symmetric) in zip(RULES, itertools.cycle([(2, True), (0, False), (3, False)]))
    for gather in ("all", "ring")
]


def _whole(case: Case) -> Problem:
    """A batch in which no score is so near its limit that rounding decides, and some candidates are kept out."""
    for seed in itertools.count(7):
        problem = _problem(seed, slots=case[1], num_groups=20)
        try:
            if _taking_part(problem, case[0])[1] > 2:
                return problem
        except AssertionError:
            continue
    raise AssertionError


def _share(case: Case, rows: slice, gather: str | None = None) -> Share:
    """The loss of the given rows with filter and alignment, gradients, pairs kept out."""
    rule, _, symmetric, own_gather = case
    problem = _whole(case)
    translated = torch.arange(len(problem.queries[rows]))[::2]
    translations = F.normalize(problem.queries[rows].flip(1).float(), dim=1)[translated].requires_grad_()
    loss = ContrastiveLoss(
        temperature=0.1,
        symmetric=symmetric,
        implementation="auto",
        gather=gather or own_gather,  # type: ignore[arg-type]
        filter=rule,
        alignment=AlignmentConfig(weight=0.5),
    )
    leaves = problem.leaves(rows)
    given = Translations(embeddings_AH=translations, translated_A=translated)
    terms = _terms(problem, rows, loss, leaves, translations=given)
    terms.loss.backward()
    return Share((terms.loss.detach(),), side_by_side(leaves), (_kept_out(terms),))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_together_hold_the_loss_and_gradients_of_one_process_on_the_whole_batch(world_size: int) -> None:
    assert_processes_agree(_share, CASES, world_size)


def test_called_as_a_plain_loss_it_keeps_nothing_out() -> None:
    problem = _problem(3, slots=0)
    # All are near each other, and so no score is far below that of the positive.
    rows = [F.normalize(1 + 0.2 * of, dim=1).float() for of in (problem.queries, problem.passages)]
    filtering = ContrastiveLoss(temperature=0.1, filter=FilterConfig(ratio=0.1))
    plain = ContrastiveLoss(temperature=0.1)(*rows, groups_Q=problem.groups)
    assert torch.equal(filtering(*rows, groups_Q=problem.groups), plain)
    # With so low a limit nothing is left but the positive, whose share is 1.
    assert filtering.terms(*rows, groups_Q=problem.groups).loss.item() == 0


@pytest.mark.parametrize("positive", [-0.4, 0.0, 0.4])
def test_a_ratio_moves_the_limit_the_same_way_for_every_sign(positive: float) -> None:
    score = torch.tensor(positive)
    assert FilterConfig(ratio=0.9).limit(score) <= score <= FilterConfig(ratio=1.1).limit(score)
    assert FilterConfig(ratio=0.9).limit(torch.tensor(0.5)).item() == pytest.approx(0.45)
    assert FilterConfig().limit(score).item() == pytest.approx(positive + 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 0.1, "ratio": 0.95}, "loss.filter has both a margin and a ratio: give one of them"),
        ({"margin": 3.0}, r"loss\.filter\.margin is 3\.0: it must be a number from 0 to 2"),
        ({"ratio": 0.0}, r"loss\.filter\.ratio is 0\.0"),
        ({"by": "teacher"}, r"loss\.filter\.by is 'teacher': it must be one of self, guide"),
    ],
)
def test_impossible_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FilterConfig(**options)


def test_a_guide_is_named_where_one_decides_and_nowhere_else() -> None:
    with pytest.raises(UserError, match="names none: give a model, or filter by self"):
        ContrastiveConfig(filter=FilterConfig(by="guide"))
    with pytest.raises(UserError, match="names a model, but nothing goes by it"):
        ContrastiveConfig(filter=FilterConfig(), guide="model")
    with pytest.raises(ValueError, match="guide: None, but the loss asks for them"):
        ContrastiveConfig(filter=FilterConfig(by="guide"), guide="model").build().terms(
            torch.eye(2), torch.eye(2), groups_Q=torch.arange(2)
        )
