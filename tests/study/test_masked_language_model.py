"""mini-xlmr: what is packed into chunks, what is predicted, and that a run goes on where it was interrupted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig, build_encoder
from hybatch.models.backbone.fresh import fresh_backbone
from hybatch.models.config import FreshBackboneConfig
from hybatch.models.tokenization import train_tokenizer
from study.masked_language_model import (
    MaskedLanguageModel,
    PretrainingConfig,
    chunks_of,
    claim_for_recipe,
    last_whole_checkpoint,
    main,
    mean_of_neighbours,
    texts_by_language,
    whiten,
)
from tests.faked_processor import fake_processor

FRESH = {
    "architecture": "nomic_bert",
    "layers": 1,
    "width": 32,
    "intermediate_size": 32,
    "vocabulary_size": 600,
    "dropout": 0.0,
    "max_positions": 16,
    "tokenizer_texts": 500,
}


def small_corpus(folder: Path) -> str:
    """60 sentences in each of two languages."""
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for language, verb in (("de", "sieht"), ("en", "sees")):
        rows = (
            {"id": str(row), "question": f"{verb} {row} {row % 7}?", "passage": f"{row % 7} {verb} {row} {row * row}."}
            for row in range(60)
        )
        (corpus / f"{language}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return str(corpus)


def recipe(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    settings = {
        "output_dir": str(folder / "backbone"),
        "corpora": [{"path": small_corpus(folder)}],
        "held_out": [{"path": small_corpus(folder)}],
        "fresh": FRESH,
        "chunk_length": 16,
        "batch_size": 8,
        "steps": 6,
        "warmup_steps": 2,
        "checkpoint_every_steps": 3,
    }
    path.write_text(yaml.safe_dump(settings | changes), encoding="utf-8")
    return path


def test_chunks_hold_the_tokens_of_one_language_in_order_and_drop_only_an_end() -> None:
    texts = [["one two three", "four five"], ["six seven eight nine ten eleven"]]
    tokenizer = train_tokenizer(FreshBackboneConfig(vocabulary_size=300), [text for listed in texts for text in listed])
    chunks = chunks_of(texts, tokenizer, 4).ids_NT
    start = 0
    for listed in texts:
        tokens = [token for text in listed for token in tokenizer(text)["input_ids"]]
        number = len(tokens) // 4
        np.testing.assert_array_equal(chunks[start : start + number].ravel(), tokens[: 4 * number])
        start += number
    assert start == len(chunks)


def test_too_little_text_for_one_chunk_is_an_error() -> None:
    tokenizer = train_tokenizer(FreshBackboneConfig(vocabulary_size=300), ["a b"])
    with pytest.raises(UserError, match="lower chunk_length"):
        chunks_of([["a b"]], tokenizer, 64)


def test_a_text_that_stands_twice_is_read_once(tmp_path: Path) -> None:
    texts = texts_by_language([CorpusConfig(path=small_corpus(tmp_path))] * 2)
    assert texts == texts_by_language([CorpusConfig(path=small_corpus(tmp_path))])
    assert all(len(set(listed)) == len(listed) for listed in texts.values())


def test_the_loss_is_that_of_all_logits_at_the_tokens_to_predict() -> None:
    torch.manual_seed(0)
    backbone = fresh_backbone(
        FreshBackboneConfig(**FRESH), vocabulary_size=600, max_positions=16, attn_implementation=None
    )
    model = MaskedLanguageModel(backbone, width=32, vocabulary_size=600)
    ids = torch.randint(5, 600, (3, 16))
    labels = torch.where(torch.rand(3, 16) < 0.3, ids, -100)
    loss = model(ids, torch.ones_like(ids), labels)["loss"]
    hidden = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    logits = model.transform(hidden) @ backbone.get_input_embeddings().weight.T + model.bias
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100))


def test_without_layers_a_token_is_predicted_from_the_mean_of_the_seen_tokens_around_it() -> None:
    torch.manual_seed(0)
    hidden, seen = torch.randn(2, 9, 4), torch.rand(2, 9) < 0.4
    means = mean_of_neighbours(hidden, seen, 2)
    for row in range(2):
        for place in range(9):
            around = [at for at in range(max(0, place - 2), min(9, place + 3)) if seen[row, at]]
            expected = hidden[row, around].mean(dim=0) if around else torch.zeros(4)
            torch.testing.assert_close(means[row, place], expected)


def test_whitened_embeddings_pool_to_mean_zero_and_equal_variances() -> None:
    torch.manual_seed(0)
    config = FreshBackboneConfig(**FRESH | {"architecture": "openai-gpt", "layers": 0})
    backbone = fresh_backbone(config, vocabulary_size=600, max_positions=16, attn_implementation=None)
    embeddings = backbone.get_input_embeddings().weight
    with torch.no_grad():
        embeddings += 0.03 * torch.linspace(0, 1, 32) * torch.randn(600, 1) + 0.3
    ids = np.random.default_rng(0).integers(0, 600, (5000, 8))
    whiten(backbone, ids)
    pooled = embeddings.detach().numpy()[ids].mean(axis=1)
    covariance = np.cov(pooled.T)
    np.testing.assert_allclose(pooled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(covariance, np.eye(32) * covariance.trace() / 32, atol=0.02 * covariance.trace() / 32)
    assert embeddings.norm(dim=1).mean().item() == pytest.approx(backbone.config.initializer_range * 32**0.5, rel=1e-5)


@pytest.mark.parametrize(("layers", "neighbours"), [(0, None), (1, 3), (0, 0)])
def test_neighbours_are_for_backbones_without_layers(
    tmp_path: Path, layers: int, neighbours: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, fresh=FRESH | {"layers": layers}, neighbours=neighbours)
    assert main(["--config", str(path)]) == 2
    assert "neighbours" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    for name in ("whole", "interrupted"):
        (tmp_path / name).mkdir()
        assert main(["--config", str(recipe(tmp_path / name))]) == 0
    whole, interrupted = tmp_path / "whole/backbone", tmp_path / "interrupted/backbone"
    for path in interrupted.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    (interrupted / "checkpoints/checkpoint-6/trainer_state.json").write_text('{"half', encoding="utf-8")
    assert last_whole_checkpoint(interrupted / "checkpoints") == str(interrupted / "checkpoints/checkpoint-3")
    assert main(["--config", str(recipe(tmp_path / "interrupted"))]) == 0
    expected, got = load_file(whole / "model.safetensors"), load_file(interrupted / "model.safetensors")
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, got[name]), name
    assert (whole / "metrics.json").read_bytes() == (interrupted / "metrics.json").read_bytes()


@pytest.mark.slow
def test_the_folder_is_a_backbone_that_training_starts_from(tmp_path: Path) -> None:
    assert main(["--config", str(recipe(tmp_path))]) == 0
    encoder = build_encoder(EncoderConfig(backbone=str(tmp_path / "backbone"), pooling="mean"), seed=0, texts=None)
    assert isinstance(encoder, Encoder)
    figures = json.loads((tmp_path / "backbone/metrics.json").read_text(encoding="utf-8"))
    assert figures["mean/loss"] == pytest.approx((figures["de/loss"] + figures["en/loss"]) / 2)
    assert 0 <= figures["mean/accuracy"] <= 1
    before = (tmp_path / "backbone/model.safetensors").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "backbone/checkpoints")
    assert main(["--config", str(recipe(tmp_path))]) == 0
    assert (tmp_path / "backbone/model.safetensors").stat().st_mtime_ns == before


def test_a_folder_of_another_recipe_is_refused_by_the_fields_that_differ(tmp_path: Path) -> None:
    config = PretrainingConfig(
        output_dir=str(tmp_path / "backbone"),
        corpora=[CorpusConfig(path="embedded")],
        fresh=FreshBackboneConfig(**FRESH),
    )
    claim_for_recipe(tmp_path / "backbone", config)
    claim_for_recipe(tmp_path / "backbone", config)
    with pytest.raises(UserError, match=r"fresh\.width: was 32, now 64"):
        claim_for_recipe(tmp_path / "backbone", replace(config, fresh=replace(config.fresh, width=64)))


def test_bf16_on_a_processor_that_does_not_gain_by_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(recipe(tmp_path, corpora=[{"path": str(tmp_path / "missing")}]))
    for instructions, precision, is_said in ((["avx512_bf16"], "true", 0), ([], "true", 1), ([], "false", 0)):
        fake_processor(monkeypatch, *instructions)
        output = str(tmp_path / f"{precision}{is_said}")
        assert main(["--config", path, "--mixed_precision", precision, "--output_dir", output]) == 2
        assert capsys.readouterr().err.count("neither AVX512-BF16 nor AMX") == is_said


def test_bad_input_ends_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(recipe(tmp_path)), "--steps", "0"]) == 2
    assert "steps is 0" in capsys.readouterr().err
    assert main(["--config", str(recipe(tmp_path, corpora=[{"path": str(tmp_path / "missing")}]))]) == 2
    assert "missing" in capsys.readouterr().err
