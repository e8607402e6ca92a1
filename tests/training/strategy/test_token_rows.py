"""The token embedding, looked up and written once a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybatch.training.strategy.token_rows import TokenRows
from tests.training.tiny import tokenize

TEXTS = [["a b c", "b"], ["c c d e"], ["a", "f f f", "b d"]]


def _direct(table: nn.Embedding, step: int) -> tuple[list[Tensor], Tensor]:
    """Each chunk looks up for itself."""
    table.zero_grad()
    rows = [table(chunk["input_ids"])[chunk["attention_mask"].bool()][None] for chunk in _chunks()]
    sum((_weights(one, step + i) * one).sum() for i, one in enumerate(rows)).backward()  # type: ignore[union-attr]
    assert table.weight.grad is not None
    return rows, table.weight.grad.clone()


def _chunks() -> list[dict[str, Tensor]]:
    return [tokenize(texts, "query") for texts in TEXTS]


def _weights(rows: Tensor, seed: int) -> Tensor:
    return torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed), dtype=rows.dtype)


def _table(padding_idx: int | None = None) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(97, 5, padding_idx=padding_idx).double()


def test_all_chunks_of_a_forward_pass_share_one_lookup() -> None:
    table = _table()
    truth, gradient = _direct(table, 3)
    table.zero_grad()
    found = TokenRows(table)(_chunks())
    assert all(map(torch.equal, found, truth))
    sum((_weights(one, 3 + i) * one).sum() for i, one in enumerate(found)).backward()  # type: ignore[union-attr]
    assert table.weight.grad is not None
    assert torch.allclose(table.weight.grad, gradient, rtol=1e-12, atol=1e-14)


def test_only_the_last_backward_pass_of_a_step_writes_the_gradient_and_it_is_that_of_all() -> None:
    table = _table()
    rows = TokenRows(table)
    for step in (3, 8):
        _, gradient = _direct(table, step)
        table.zero_grad()
        chunks = _chunks()
        for i, chunk in enumerate(chunks):
            rows.is_last = i == len(chunks) - 1
            assert table.weight.grad is None
            (found,) = rows([chunk])
            (_weights(found, step + i) * found).sum().backward()
        assert table.weight.grad is not None
        assert torch.allclose(table.weight.grad, gradient, rtol=1e-12, atol=1e-14)


def test_a_padding_token_in_a_text_has_no_gradient_as_in_the_table_itself() -> None:
    padding_id = int(tokenize(["b"], "query")["input_ids"][0, 0])
    table = _table(padding_id)
    _, gradient = _direct(table, 3)
    assert not gradient[padding_id].any()
    table.zero_grad()
    found = TokenRows(table)(_chunks())
    sum((_weights(one, 3 + i) * one).sum() for i, one in enumerate(found)).backward()  # type: ignore[union-attr]
    assert table.weight.grad is not None
    assert torch.allclose(table.weight.grad, gradient, rtol=1e-12, atol=1e-14)
