"""mteb on several processes: the same scores, and what is there already is not measured again."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hybatch import cli
from hybatch.errors import UserError
from hybatch.evaluation.mteb.sharing import share_encoding
from tests.evaluation.mteb.conftest import register_tasks, save_encoder
from tests.processes import run_processes


class _Model:
    """Encodes a text as its length and its first letter; remembers the batches."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.others: list[dict[str, Any]] = []

    def get_embedding_dimension(self) -> int:
        return 2

    def encode(self, inputs: Any, **options: Any) -> Any:
        if options.get("output_value") is None and "output_value" in options:
            self.others.append(options)
            return "as it is"
        self.batches.append(list(inputs))
        return np.array([[len(text), ord(text[0]) if text else 0] for text in inputs], dtype=np.float32)


def test_each_distinct_text_is_encoded_once_and_every_row_is_its_text_s() -> None:
    model = _Model()
    share_encoding(model)
    texts = ["bb", "a", "", "bb", "dddd", "ccc", "a"]
    rows = model.encode(texts, batch_size=2, prompt="p", show_progress_bar=True)
    assert model.batches == [["dddd", "ccc"], ["bb", "a"], [""]]
    assert rows.tolist() == [[len(text), ord(text[0]) if text else 0] for text in texts]


def test_another_form_than_rows_is_what_the_model_gives() -> None:
    model = _Model()
    share_encoding(model)
    assert model.encode(["a"], output_value=None) == "as it is"
    assert model.others == [{"output_value": None}]


def test_an_embedding_that_is_not_finite_is_no_task_s_figure() -> None:
    model = _Model()
    model.encode = lambda inputs, **_: np.full((len(inputs), 2), np.nan, dtype=np.float32)
    share_encoding(model)
    with pytest.raises(UserError, match="the model gives the text 'bb' an embedding that is not finite"):
        model.encode(["a", "bb"])


def _command(model: Path, output: Path) -> list[str]:
    command = ["mteb", "--model", str(model), "--output", str(output), "--device", "cpu", "--batch-size", "3"]
    return [*command, "--tasks", "LocalRetrieval", "LocalBitext"]


def _measure(model: Path, output: Path) -> dict[str, int]:
    """Runs the tasks twice, the second time where mteb's own files are there; how often their data were loaded."""
    registry = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    loaded = register_tasks(lambda name, task: registry.update({name: task}))
    for _ in range(2):
        assert cli.main(_command(model, output)) == 0
    return loaded


@pytest.mark.slow
def test_two_processes_give_the_files_of_one_and_go_by_what_is_there(
    tmp_path: Path, local_tasks: dict[str, int]
) -> None:
    save_encoder(tmp_path / "model")
    assert cli.main(_command(tmp_path / "model", tmp_path / "1")) == 0
    loaded = run_processes(_measure, 2, tmp_path / "model", tmp_path / "2")
    assert loaded == [{"LocalRetrieval": 1, "LocalBitext": 1}] * 2
    for task in local_tasks:
        one, two = ((tmp_path / processes / task / "results.json").read_bytes() for processes in ("1", "2"))
        assert one == two
