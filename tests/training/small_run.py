"""A real run that takes seconds: a parallel corpus of three languages and an encoder of a few thousand parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

WORDS = {
    "de": ["rot", "blau", "Haus", "Baum", "Fluss", "Berg", "Stadt", "Brot", "Vogel", "Stein", "Licht", "Wald"],
    "en": ["red", "blue", "house", "tree", "river", "hill", "town", "bread", "bird", "stone", "light", "wood"],
    "es": ["rojo", "azul", "casa", "árbol", "río", "monte", "ciudad", "pan", "pájaro", "piedra", "luz", "bosque"],
}


def write_corpus(folder: Path, *, examples: int = 150, first: int = 0, languages: str = "de en es") -> Path:
    """Write <lang>.jsonl files of unlike texts: the digits of the example's number, as words."""
    folder.mkdir(parents=True, exist_ok=True)
    for language in languages.split():
        words = WORDS[language]
        rows = []
        for number in range(first, first + examples):
            picked = [words[(number // 12**place + place) % 12] for place in range(3)]
            rows.append(
                {
                    "id": f"e{number}",
                    "question": f"{' '.join(picked)}?",
                    "passage": f"{' '.join(reversed(picked))} {number} {' '.join(picked * (number % 4))}.",
                }
            )
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"
        (folder / f"{language}.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_config(folder: Path, **sections: Any) -> Path:
    """Write config.yaml for a run in folder/run on corpora that are made below `folder`; sections are merged in."""
    config: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "corpora": [{"path": str(write_corpus(folder / "train"))}],
        "seed": 3,
        "model": {
            "fresh": {"width": 32, "layers": 1, "heads": 2, "vocabulary_size": 500, "dropout": 0.1},
            "query_max_length": 24,
            "passage_max_length": 32,
        },
        "sampling": {"batch_size": 16},
        "loss": {"temperature": 0.05},
        "training": {
            "steps": 40,
            "learning_rate": 3e-3,
            "checkpoint_every_steps": 20,
            "threads": 1,
            "log_every": 1,
            "trackers": [],
        },
        "validation": {
            "corpora": [{"path": str(write_corpus(folder / "held-out", first=140, examples=60))}],
            "every_steps": 20,
            "batches": 2,
        },
    }
    for name, section in sections.items():
        if isinstance(section, dict) and isinstance(config.get(name), dict):
            config[name] |= section
        else:
            config[name] = section
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return path


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of the training steps, in the order written."""
    return [(row["step"], row["loss"]) for row in read_metrics(run) if "loss" in row]
