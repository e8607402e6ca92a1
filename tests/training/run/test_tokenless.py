"""Texts that the tokenizer leaves nothing of are named before the first step, not at the step that meets them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from tokenizers import normalizers

from hybatch.train import main
from tests.models.backbones import save_backbone, tokenizer
from tests.training.small_run import write_config


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """With a tokenizer that drops what has no width, as BERT's do."""
    folder = save_backbone(tmp_path, "mbert")
    drops = copy.deepcopy(tokenizer())
    steps = [normalizers.Replace("\u200b", ""), drops.backend_tokenizer.normalizer]
    drops.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    drops.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("corpus", "field", "value", "role"),
    [
        ("train", "question", "\u200b", "query"),
        ("train", "passage", "\u200b\u200b", "passage"),
        ("train", "negatives", ["a town", "\u200b"], "passage"),
        ("train", "positives", ["a town", "\u200b"], "passage"),
        ("held-out", "passage", "\u200b", "passage"),
    ],
)
def test_a_text_without_a_token_ends_the_run_before_its_first_step(
    corpus: str,
    field: str,
    value: str | list[str],
    role: str,
    backbone: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = {"fresh": None, "backbone": str(backbone)}
    loss = {"hard_negatives": 1 if field == "negatives" else 0}
    config = write_config(tmp_path, model=model, loss=loss, training={"steps": 1}, validation={"every_steps": 9})
    file = tmp_path / corpus / "en.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | {field: value})
    file.write_text("\n".join(lines), encoding="utf-8")
    assert main(["--config", str(config)]) == 2
    assert f"error: {corpus}: the {role} '\\u200b" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
