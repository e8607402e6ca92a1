"""Each text is encoded once, in batches that nothing but the texts and the batch size decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch.errors import UserError
from hybatch.evaluation.encoding.encode import EncodedTask, encode_distinct
from hybatch.evaluation.encoding.precision import autocast_dtype
from hybatch.evaluation.encoding.rate import EncodingDone
from hybatch.evaluation.settings.task import RetrievalTask
from hybatch.models import EncoderConfig, build_encoder
from hybatch.models.flops import encoder_flops
from tests.evaluation.synthetic import ToyEncoder, synthetic_task
from tests.faked_processor import fake_processor
from tests.models.backbones import TEXTS, save_backbone


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


@pytest.mark.parametrize(("letter", "text", "forwards"), [("w", "white elephant", 1), ("z", "zebra", 2)])
def test_an_embedding_that_is_not_finite_is_refused_with_its_text_and_early_if_it_is_among_the_first(
    letter: str, text: str, forwards: int
) -> None:
    encoder: Any = ToyEncoder()
    with torch.no_grad():
        encoder.letters[ord(letter)] = torch.nan
    with pytest.raises(UserError, match=f"'{text}'"):
        encode_distinct(encoder, ["parrot", "zebra", "ant", "white elephant"], "query", batch_size=2, progress=False)
    assert encoder.forwards == forwards


def test_no_text_at_all_gives_no_rows() -> None:
    encoder: Any = ToyEncoder()
    assert encode_distinct(encoder, [], "query", batch_size=2, progress=False).shape == (0, 8)


def test_a_cpu_encodes_no_more_tokens_at_once_than_its_caches_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybatch.evaluation.encoding.encode._CPU_TOKENS", 20)
    encoder: Any = ToyEncoder()
    texts = ["a" * length for length in (30, 9, 8, 7, 6, 1)]
    found = encode_distinct(encoder, texts, "query", batch_size=3, progress=False)
    # One letter more each, for the role: 31 alone, 2 x 10 and 9, then 3 x 8 no more.
    assert encoder.forwards == 4
    np.testing.assert_allclose(found, encoder(encoder.tokenize(texts, "query")).detach().numpy(), atol=1e-6)


def test_tokens_and_operations_of_all_texts_are_counted(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "xlm-roberta")
    config = EncoderConfig(backbone=str(folder), query_max_length=40, passage_max_length=60, head="dense")
    encoder = build_encoder(config, seed=0)
    texts = sorted(TEXTS)
    lengths = encoder.lengths(texts, "passage")
    flops = encoder_flops(encoder.backbone, encoder.head, encoder.unused)
    longest_first = sorted(lengths, reverse=True)
    without_padding = [(1, length) for length in lengths]
    padded = [(len(longest_first[i : i + 2]), longest_first[i]) for i in range(0, len(lengths), 2)]
    for reason, shapes in ((None, without_padding), ("a test", padded)):
        if reason is not None:
            encoder.pad(reason)
        done = EncodingDone()
        encode_distinct(encoder, texts, "passage", batch_size=2, progress=False, done=done)
        assert (done.tokens, done.operations(encoder)) == (sum(lengths), flops.forward(shapes))
        rates = done.rates(encoder, 2.0)
        assert rates["tokens_per_second"] == done.tokens / 2
        assert rates["share_of_product_rate"] == pytest.approx(
            done.operations(encoder) / 2e12 / rates["product_tflops"]
        )
        assert rates.get("padded_because") == reason


def test_a_precision_that_the_device_is_slower_in_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert autocast_dtype("float32", cpu) is None
    assert (autocast_dtype("bf16", cuda), autocast_dtype("fp16", cuda)) == (torch.bfloat16, torch.float16)
    with pytest.raises(UserError, match="fp16 is for GPUs"):
        autocast_dtype("fp16", cpu)
    fake_processor(monkeypatch, "avx512_bf16")
    assert autocast_dtype("bf16", cpu) is torch.bfloat16
    fake_processor(monkeypatch)
    with pytest.raises(UserError, match=r"neither AVX512-BF16 nor AMX.*say auto, or leave"):
        autocast_dtype("bf16", cpu)
