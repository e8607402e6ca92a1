"""Which implementation the loss runs in."""

from __future__ import annotations

import pytest
import torch

from hybatch.losses import info_nce
from hybatch.losses.info_nce import IMPLEMENTATIONS


def _labels(num_rows: int) -> dict[str, torch.Tensor | float]:
    rows = torch.arange(num_rows)
    return {"positive_index_Q": rows, "query_groups_Q": rows, "candidate_groups_D": rows, "temperature": 0.05}


@pytest.mark.parametrize(("num_rows", "streams"), [(8, False), (9, True)])
def test_auto_streams_as_soon_as_the_matrix_outgrows_its_limit(
    num_rows: int, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(info_nce, "DENSE_LOGITS_BYTES", 4 * 8 * 8)
    monkeypatch.setattr(info_nce, "streaming_info_nce", lambda queries, *_, **__: asked.append(len(queries)))
    embeddings = torch.nn.functional.normalize(torch.randn(num_rows, 4), dim=1)
    IMPLEMENTATIONS["auto"](embeddings, embeddings, **_labels(num_rows))
    assert bool(asked) == streams


@pytest.mark.parametrize("implementation", ["dense", "streaming"])
def test_an_embedding_that_is_not_finite_makes_a_loss_that_is_not(implementation: str) -> None:
    queries = torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    queries[3, 2] = float("nan")
    value = IMPLEMENTATIONS[implementation](queries.requires_grad_(), queries.detach(), **_labels(5))  # type: ignore[index]
    assert not value.isfinite()
