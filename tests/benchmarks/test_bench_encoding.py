"""The benchmark of encoding: that the contenders do the same, and that what it counts is right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bench_encoding
import processor
import pytest
import torch

from hybatch.models import Encoder, EncoderConfig, build_encoder
from tests.models.backbones import TEXTS, save_backbone


@pytest.fixture
def model(tmp_path: Path) -> Path:
    backbone = save_backbone(tmp_path, "xlm-roberta")
    config = EncoderConfig(backbone=str(backbone), query_max_length=40, passage_max_length=60)
    build_encoder(config, seed=0).save(tmp_path / "model")
    return tmp_path / "model"


def test_all_contenders_give_the_same_vectors_and_are_set_beside_the_floor(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_encoding, "some_texts", lambda *_: TEXTS)
    monkeypatch.setattr(processor, "peak_gflops", lambda _: 1e-9)
    path = tmp_path / "figures.json"
    given = ["--json", str(path), "--model", str(model), "--data-dir", str(tmp_path), "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["", *given])
    bench_encoding.main()
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["finished"] is True
    assert [table["language"] for table in result["tables"]] == ["all", "de"]
    for table in result["tables"]:
        names = [row["name"] for row in table["rows"]]
        assert names[:3] == [bench_encoding.FLOOR, bench_encoding.OURS, bench_encoding.PADDED]
        assert len(names) == 4
        assert names[3].startswith(bench_encoding.OTHER)
        assert table["largest_difference"] < 1e-5
    lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    padded = [line.split(" | ") for line in lines if line.startswith("| hybatch, padded |")]
    assert [cells[5].endswith("%") for cells in padded] == [True, True]


def test_the_floor_multiplies_with_every_matrix_of_the_layers_and_no_other(model: Path) -> None:
    encoder = Encoder.load(model)
    run, flops = bench_encoding.products(encoder, 7, torch.float32, torch.device("cpu"))
    run()
    layers = [p.numel() for n, p in encoder.backbone.encoder.named_parameters() if p.ndim == 2]  # type: ignore[union-attr]
    assert flops == 2 * 7 * sum(layers)
