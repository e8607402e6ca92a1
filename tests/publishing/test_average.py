"""`hybatch average`: a folder whose weights are the mean of several, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hybatch import cli
from hybatch.models import Encoder
from hybatch.models.card.base import front_matter
from tests.publishing.saved import save_encoder


def _moved(model: Path, folder: Path, amount: float) -> Path:
    """The encoder with every weight of its backbone moved by the same amount."""
    encoder = Encoder.load(model)
    with torch.no_grad():
        for weight in encoder.backbone.parameters():
            weight += amount
    encoder.save(folder)
    return folder


def test_weights_are_shares_whatever_they_sum_to(tmp_path: Path) -> None:
    start = save_encoder(tmp_path / "start")
    models = [start, _moved(start, tmp_path / "a", 0.5), _moved(start, tmp_path / "b", 1.0)]
    command = ["average", *map(str, models), "--weights", "4", "2", "2", "--output", str(tmp_path / "mean")]
    assert cli.main(command) == 0
    mean, first = Encoder.load(tmp_path / "mean").state_dict(), Encoder.load(start).state_dict()
    moved = [name for name, weight in mean.items() if name.startswith("backbone.") and weight.is_floating_point()]
    assert moved
    for name in moved:
        torch.testing.assert_close(mean[name], first[name] + 0.375)
    card = (tmp_path / "mean" / "README.md").read_text(encoding="utf-8")
    assert "| share of start | 0.5 |" in card
    assert front_matter(tmp_path / "mean" / "README.md")["library_name"] == "sentence-transformers"


def test_without_weights_all_count_alike_and_the_folder_is_an_encoder(tmp_path: Path) -> None:
    start = save_encoder(tmp_path / "start")
    assert cli.main(["average", str(start), str(start), "--output", str(tmp_path / "mean")]) == 0
    encoders = [Encoder.load(folder) for folder in (start, tmp_path / "mean")]
    texts = encoders[0].tokenize(["Wien liegt an der Donau."], "passage")
    with torch.inference_mode():
        assert torch.equal(*(encoder(texts) for encoder in encoders))


def test_the_card_names_runs_and_the_base_that_all_have(tmp_path: Path) -> None:
    models = [save_encoder(tmp_path / run / "best") for run in ("one", "two")]
    for model in models:
        card = (model / "README.md").read_text(encoding="utf-8")
        (model / "README.md").write_text(card.replace("---\n", "---\nbase_model: some/base\n", 1), encoding="utf-8")
    assert cli.main(["average", *map(str, models), "--output", str(tmp_path / "mean")]) == 0
    card = (tmp_path / "mean" / "README.md").read_text(encoding="utf-8")
    assert "| share of one/best | 0.5 |" in card
    assert "It was made from [some/base](https://huggingface.co/some/base)." in card


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["{start}"], "give two or more encoders; here 1"),
        (["{start}", "{start}", "--weights", "1"], "give one for each of the 2 models; here 1"),
        (["{start}", "{other}"], "the encoders differ in pooling, mean and cls: they have no mean"),
        (["{start}", "{debiased}"], "is debiased (debias.json)"),
        (["{start}", "{nothing}"], "there is no such folder"),
        (["{start}", "{empty}"], "holds no model"),
    ],
)
def test_what_has_no_mean_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    places = {name: tmp_path / name for name in ("start", "other", "debiased", "nothing", "empty")}
    save_encoder(places["start"])
    save_encoder(places["other"], pooling="cls")
    save_encoder(places["debiased"])
    (places["debiased"] / "debias.json").write_text("{}")
    places["empty"].mkdir()
    before = sorted(tmp_path.iterdir())
    assert cli.main(["average", *(one.format(**places) for one in options), "--output", str(tmp_path / "mean")]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = save_encoder(tmp_path / "start")
    assert cli.main(["average", str(start), str(start), "--output", str(start)]) == 2
    assert "is there already" in capsys.readouterr().err
