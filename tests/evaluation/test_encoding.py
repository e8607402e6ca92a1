"""Each text is encoded once, in batches that nothing but the texts and the batch size decide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hybatch.errors import UserError
from hybatch.evaluation.encoding import EncodedTask, encode_distinct
from hybatch.evaluation.settings.task import RetrievalTask
from tests.evaluation.synthetic import ToyEncoder, synthetic_task


def _task_with_duplicates() -> RetrievalTask:
    return RetrievalTask(
        name="duplicates",
        languages=("aa", "bb"),
        queries={"aa": ["who?", "what?"], "bb": ["what?"]},
        candidates={"aa": ["a name", "a long thing", "a name"], "bb": ["a name", "what?"]},
        positives={"aa": [[0], [1]], "bb": [[4]]},
    )


def test_equal_texts_are_encoded_once_per_role() -> None:
    encoder: Any = ToyEncoder()
    EncodedTask(encoder, _task_with_duplicates(), batch_size=2, progress=False)
    assert sorted(encoder.seen) == [
        ("passage", "a long thing"),
        ("passage", "a name"),
        ("passage", "what?"),
        ("query", "what?"),
        ("query", "who?"),
    ]


def test_equal_texts_have_equal_bits_and_stand_where_the_task_has_them() -> None:
    encoder: Any = ToyEncoder()
    encoded = EncodedTask(encoder, _task_with_duplicates(), batch_size=2, progress=False)
    rows = encoded.embeddings("candidates", "aa")
    np.testing.assert_array_equal(rows[0], rows[2])
    np.testing.assert_array_equal(rows[0], encoded.embeddings("candidates", "bb")[0])
    direct = encoder(encoder.tokenize(["a long thing"], "passage")).detach().numpy()
    np.testing.assert_allclose(rows[1:2], direct, atol=1e-6)


def test_texts_go_in_batches_sorted_by_length() -> None:
    encoder: Any = ToyEncoder()
    task = synthetic_task(1)
    EncodedTask(encoder, task, batch_size=4, progress=False)
    lengths = [len(text) for role, text in encoder.seen if role == "passage"]
    assert lengths == sorted(lengths, reverse=True)


def test_the_training_mode_is_restored_and_no_gradient_is_kept() -> None:
    encoder: Any = ToyEncoder()
    encoder.train()
    encode_distinct(encoder, ["b", "a"], "query", batch_size=1, progress=False)
    assert encoder.training
    assert encoder.letters.grad is None


def test_an_embedding_that_is_not_finite_is_refused_with_its_text() -> None:
    encoder: Any = ToyEncoder()
    with torch.no_grad():
        encoder.letters[ord("z")] = torch.nan
    with pytest.raises(UserError, match="'zebra'"):
        encode_distinct(encoder, ["parrot", "zebra", "ant"], "query", batch_size=2, progress=False)


def test_no_text_at_all_gives_no_rows() -> None:
    encoder: Any = ToyEncoder()
    assert encode_distinct(encoder, [], "query", batch_size=2, progress=False).shape == (0, 8)
