"""The matrix of scaled cosine similarities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybatch.ops import similarity


def test_similarities_are_cosines_over_the_temperature_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, candidates = (torch.randn(rows, 6, generator=generator).bfloat16() for rows in (4, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarity(queries, candidates, 0.1)
    q, c = queries.double().numpy(), candidates.double().numpy()
    wanted = q @ c.T / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(c, axis=1) / 0.1
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_similarities_pass_gradients_to_embeddings_and_temperature() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, candidates = (torch.randn(r, 3, generator=generator, dtype=torch.float64) for r in (2, 4))
    temperature = torch.tensor(0.3, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (queries, candidates, temperature)]
    assert torch.autograd.gradcheck(similarity, leaves)


def test_a_temperature_that_is_not_positive_is_named() -> None:
    with pytest.raises(ValueError, match=r"temperature: must be greater than 0 and finite, not -1\.0"):
        similarity(torch.ones(1, 2), torch.ones(1, 2), -1.0)
