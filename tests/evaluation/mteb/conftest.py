"""Tasks of mteb with a handful of texts in memory, and a tiny encoder whose prompts matter."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
QUERIES = {language: [f"{language} {word}?" for word in WORDS] for language in ("swh", "yor")}
PASSAGES = {language: [f"{word} is {language} {word * 2}" for word in WORDS] for language in ("swh", "yor")}


def save_encoder(directory: Path, *, query_prefix: str = "ask one: ", seed: int = 0) -> Encoder:
    """A tiny encoder of random weights, saved at `directory`."""
    config = EncoderConfig(
        fresh=FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=320, dropout=0.0),
        query_prefix=query_prefix,
        passage_prefix="tell two: ",
    )
    encoder = build_encoder(config, seed=seed, texts=WORDS).eval()
    encoder.save(directory)
    return encoder


@pytest.fixture
def local_tasks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Registers LocalRetrieval and LocalBitext with mteb; counts how often the data of each is loaded."""
    pytest.importorskip("mteb", reason="mteb is not installed; pip install 'hybatch[mteb]'")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    registry = importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY
    return register_tasks(lambda name, task: monkeypatch.setitem(registry, name, task))


def register_tasks(register: Callable[[str, Any], object]) -> dict[str, int]:
    """Hand the tasks over by name; how often the data of each is loaded is counted in what is returned."""
    loaded = {"LocalRetrieval": 0, "LocalBitext": 0}
    for task in (_retrieval_task(loaded), _bitext_task(loaded)):
        register(task.metadata.name, task)
    return loaded


def _metadata(name: str, kind: str, main_score: str, subsets: dict[str, list[str]]) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="texts of the tests",
        type=kind,
        eval_langs=subsets,
        main_score=main_score,
        dataset={"path": "local/none", "revision": "1"},
    )


def _retrieval_task(loaded: dict[str, int]) -> Any:
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = _metadata("LocalRetrieval", "Retrieval", "ndcg_at_10", {"swh": ["swh-Latn"], "yor": ["yor-Latn"]})

        def load_data(self, **_: Any) -> None:
            loaded["LocalRetrieval"] += 1
            self.dataset = {language: {"test": _collection(language)} for language in self.hf_subsets}
            self.data_loaded = True

    def _collection(language: str) -> Any:
        columns = {
            part: Dataset.from_dict(
                {"id": [f"{part}{i}" for i in range(len(texts[language]))], "text": texts[language]}
            )
            for part, texts in (("queries", QUERIES), ("corpus", PASSAGES))
        }
        judged = {f"queries{i}": {f"corpus{i}": 1} for i in range(len(WORDS))}
        return {**columns, "relevant_docs": judged, "top_ranked": None}

    return LocalRetrieval


def _bitext_task(loaded: dict[str, int]) -> Any:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskBitextMining

    class LocalBitext(AbsTaskBitextMining):
        metadata = _metadata("LocalBitext", "BitextMining", "accuracy", {"swh-yor": ["swh-Latn", "yor-Latn"]})

        def load_data(self, **_: Any) -> None:
            loaded["LocalBitext"] += 1
            pairs = Dataset.from_dict({"sentence1": QUERIES["swh"], "sentence2": QUERIES["yor"]})
            self.dataset = {"swh-yor": DatasetDict({"test": pairs})}
            self.data_loaded = True

    return LocalBitext
