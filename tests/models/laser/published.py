"""LASER-2's three files with small random weights, and its arithmetic once more in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.models.published import train_sentencepiece

SPECIALS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
LEFT_OUT = "▁"  # a piece of the sentencepiece model that the vocabulary does not have


def publish_laser(folder: Path, *, embed_dim: int = 6, hidden_size: int = 5, num_layers: int = 3) -> dict[str, Any]:
    """Write laser2.pt, laser2.spm and laser2.cvocab; return what laser2.pt holds.

    The vocabulary lists the pieces in another order than the sentencepiece model, as fairseq does by their frequency.
    """
    folder.mkdir()
    pieces = train_sentencepiece(folder / "laser2.spm")
    assert LEFT_OUT in pieces
    kept = sorted(set(pieces) - {"<unk>", "<s>", "</s>", LEFT_OUT}, key=lambda piece: piece[::-1])
    dictionary = {**SPECIALS, **{piece: 4 + index for index, piece in enumerate(kept)}}
    params = {
        "num_embeddings": len(dictionary),
        "padding_idx": 1,
        "embed_dim": embed_dim,
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "bidirectional": True,
        "left_pad": True,
        "padding_value": 0.0,
    }
    torch.manual_seed(0)
    table = nn.Embedding(len(dictionary), embed_dim, padding_idx=1).state_dict()
    lstm = nn.LSTM(embed_dim, hidden_size, num_layers, bidirectional=True).state_dict()
    model = {f"embed_tokens.{k}": v for k, v in table.items()} | {f"lstm.{k}": v for k, v in lstm.items()}
    saved = {"params": params, "model": model, "dictionary": dictionary}
    torch.save(saved, folder / "laser2.pt")
    lines = "".join(f"{piece} {1000 - index}\n" for index, piece in enumerate(kept))
    (folder / "laser2.cvocab").write_text(lines, encoding="utf-8")
    return saved


def numpy_vector(saved: dict[str, Any], ids: list[int]) -> np.ndarray:
    """float64 vector of one sentence: the equations of the LSTM, one step after the other, then the maximum."""
    weights = {name: tensor.double().numpy() for name, tensor in saved["model"].items()}
    states = weights["embed_tokens.weight"][ids]
    for layer in range(saved["params"]["num_layers"]):
        forward = _direction(weights, f"l{layer}", states)
        backward = _direction(weights, f"l{layer}_reverse", states[::-1])[::-1]
        states = np.concatenate([forward, backward], axis=1)
    return states.max(axis=0)


def _direction(weights: dict[str, np.ndarray], name: str, inputs: np.ndarray) -> np.ndarray:
    recurrent = weights[f"lstm.weight_hh_{name}"]
    hidden = cell = np.zeros(recurrent.shape[1])
    outputs = []
    for step in inputs:
        gates = weights[f"lstm.weight_ih_{name}"] @ step + weights[f"lstm.bias_ih_{name}"]
        gates = gates + recurrent @ hidden + weights[f"lstm.bias_hh_{name}"]
        enter, forget, new, leave = np.split(gates, 4)
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
        hidden = _sigmoid(leave) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
