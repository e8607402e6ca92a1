"""Both directions of a loss are those of the exchanged texts, whether or not it has a way of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hybatch.losses import ContrastiveLoss, Loss, both_directions


def _rows(seed: int, *shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


class _Plain:
    """The contrastive loss without what it says of itself."""

    def __init__(self, loss: Loss) -> None:
        self.calls = 0
        self._loss = loss

    def __call__(self, *args: torch.Tensor, **labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self._loss(*args, **labels)


@pytest.mark.parametrize("slots", [0, 2])
def test_the_contrastive_loss_and_one_that_is_computed_twice_are_the_same_in_both_directions(slots: int) -> None:
    queries, passages, negatives = _rows(0, 9, 5), _rows(1, 9, 5), _rows(2, 9, slots, 5)
    groups = torch.arange(9) % 7
    embeddings = [rows.float() for rows in (queries, passages, negatives)]
    labels = {"groups_Q": groups, "negative_groups_QN": torch.arange(9 * slots).view(9, slots) % 10 - 2}
    if not slots:
        del embeddings[2], labels["negative_groups_QN"]
    loss = ContrastiveLoss(temperature=0.05)
    plain = _Plain(loss)
    there, back = loss(*embeddings, **labels), loss(embeddings[1], embeddings[0], groups_Q=groups)
    own = both_directions(loss)(*embeddings, **labels)
    torch.testing.assert_close(own, (there + back) / 2)
    torch.testing.assert_close(both_directions(plain)(*embeddings, **labels), own)
    assert plain.calls == 2
    assert not loss.symmetric


def test_a_loss_that_counts_both_directions_already_stays_what_it_is() -> None:
    loss = ContrastiveLoss(temperature=0.05, symmetric=True)
    assert both_directions(loss) is loss
