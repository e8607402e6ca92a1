"""`hybatch push`: exactly the encoder is sent, only where it was told, and to nobody else."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError

from hybatch import cli
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder
from hybatch.models.lora.config import LoraConfig
from hybatch.publishing import push
from hybatch.version import __version__
from tests.publishing.saved import save_encoder

_NO_ANSWER: Any = SimpleNamespace(headers={}, request=None)


class _Hub:
    """What the hub is asked, and the files that it is sent; of a repository that is there `visibility`, and a
    pattern of names that it `ignores`.
    """

    def __init__(
        self, received: Path, visibility: str | None = None, refuses: Exception | None = None, ignores: str = ""
    ) -> None:
        self.received = received
        self.visibility = visibility
        self.refuses = refuses
        self.ignores = ignores
        self.calls: dict[str, dict[str, Any]] = {}

    def model_info(self, repo_id: str) -> Any:
        if self.visibility is None:
            raise RepositoryNotFoundError("not there", response=_NO_ANSWER)
        return SimpleNamespace(private=self.visibility == "private")

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls["create_repo"] = {"repo_id": repo_id, **options}

    def list_repo_files(self, repo_id: str) -> list[str]:
        return sorted(_names(self.received))

    def upload_folder(self, *, folder_path: str, **options: Any) -> Any:
        if self.refuses:
            raise self.refuses
        self.calls["upload_folder"] = options
        for name in self.list_repo_files(repo_id=""):
            if any(fnmatch(name, pattern) for pattern in options["delete_patterns"] or ()):
                (self.received / name).unlink()
        for path in sorted(Path(folder_path).rglob("*")):
            if path.is_file() and not fnmatch(path.name, self.ignores):
                place = self.received / path.relative_to(folder_path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        return SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "encoder", head="dense")


def _push(monkeypatch: pytest.MonkeyPatch, hub: _Hub, *arguments: object) -> int:
    monkeypatch.setattr(push, "_api", lambda: hub)
    return cli.main(["push", *map(str, arguments)])


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_arrives_is_the_encoder_and_gives_its_vectors(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = _Hub(tmp_path / "hub")
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine") == 0
    assert _names(hub.received) == _names(encoder)
    assert hub.calls["create_repo"] == {"repo_id": "me/mine", "private": True, "repo_type": "model", "exist_ok": True}
    assert __version__ in hub.calls["upload_folder"]["commit_message"]
    texts = ["one", "another text"]
    here, there = (
        encode_texts(Encoder.load(folder), texts, "query", batch_size=2, progress=False)
        for folder in (encoder, hub.received)
    )
    np.testing.assert_array_equal(here, there)
    assert "https://hub/commit/1" in capsys.readouterr().out


def test_a_file_that_the_repository_s_gitignore_names_is_missed(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = _Hub(tmp_path / "hub", visibility="private", ignores="*.safetensors")
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine") == 2
    said = capsys.readouterr()
    assert "model.safetensors did not arrive, the rest did: take what names them out of the .gitignore" in said.err
    assert "sent:" not in said.out


def test_no_path_of_this_machine_is_sent(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(tmp_path) in (encoder / "hybatch.json").read_text(), "else this test says nothing"
    hub = _Hub(tmp_path / "hub")
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine") == 0
    texts = [path.read_bytes() for path in hub.received.rglob("*") if path.is_file()]
    assert texts
    assert not any(str(tmp_path).encode() in text for text in texts)


def test_of_a_run_the_final_encoder_is_sent_and_nothing_else_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_encoder(tmp_path / "run" / "final")
    (tmp_path / "run" / "config.yaml").write_text("output_dir: run\n")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "optimizer.pt").write_bytes(b"state")
    hub = _Hub(tmp_path / "hub")
    assert _push(monkeypatch, hub, tmp_path / "run", "--to", "me/mine", "--public") == 0
    assert _names(hub.received) == _names(tmp_path / "run" / "final")
    assert hub.calls["create_repo"]["private"] is False


@pytest.mark.parametrize(
    ("visibility", "options", "message"),
    [("public", [], "give --public to send it there"), ("private", ["--public"], "leave --public out")],
)
def test_a_repository_of_the_other_visibility_gets_nothing(
    tmp_path: Path,
    encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    visibility: str,
    options: list[str],
    message: str,
) -> None:
    hub = _Hub(tmp_path / "hub", visibility)
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine", *options) == 2
    assert message in capsys.readouterr().err
    assert not hub.calls


@pytest.mark.parametrize(("visibility", "options"), [("private", []), ("public", ["--public"])])
def test_a_repository_of_the_same_visibility_is_added_to(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, visibility: str, options: list[str]
) -> None:
    hub = _Hub(tmp_path / "hub", visibility)
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine", *options) == 0
    assert hub.received.is_dir()


def test_a_dry_run_shows_every_file_and_asks_nobody(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody() -> HfApi:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(push, "_api", nobody)
    assert cli.main(["push", str(encoder), "--to", "me/mine", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in _names(encoder))
    assert f"{(encoder / 'model.safetensors').stat().st_size:,}" in shown
    assert "private" in shown


@pytest.mark.parametrize(
    "foreign", ["optimizer.pt", "checkpoints/step-1/rng.pt", ".env", "notes.txt", "figures/a.html"]
)
def test_a_folder_with_files_that_are_not_the_encoder_s_is_refused(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    (encoder / foreign).parent.mkdir(parents=True, exist_ok=True)
    (encoder / foreign).write_text("x")
    hub = _Hub(encoder.parent / "hub")
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine") == 2
    assert foreign in capsys.readouterr().err
    assert not hub.calls


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "these are missing: weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "truncated or damaged"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "these are missing: a tokenizer"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-2"}}'),
            "part-2 of model.safetensors.index.json is missing",
        ),
    ],
)
def test_a_folder_that_is_no_whole_encoder_is_refused(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoil: Any, message: str
) -> None:
    spoil(encoder)
    assert _push(monkeypatch, _Hub(encoder.parent / "hub"), encoder, "--to", "me/mine") == 2
    assert message in capsys.readouterr().err


def test_an_unfinished_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("output_dir: run\n")
    assert _push(monkeypatch, _Hub(tmp_path / "hub"), tmp_path, "--to", "me/mine") == 2
    assert "without a final model" in capsys.readouterr().err


@pytest.mark.parametrize("repository", ["mine", "a/b/c", "me/", "/mine", "me/m ne", "me/-mine"])
def test_a_name_that_is_no_owner_and_repository_is_refused(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], repository: str
) -> None:
    assert _push(monkeypatch, _Hub(encoder.parent / "hub"), encoder, f"--to={repository}") == 2
    assert "give OWNER/NAME" in capsys.readouterr().err


def test_without_a_token_it_is_said_how_to_get_one(
    encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(push, "get_token", lambda: None)
    assert cli.main(["push", str(encoder), "--to", "me/mine"]) == 2
    assert "hf auth login" in capsys.readouterr().err


@pytest.mark.parametrize(
    "refusal",
    [
        HfHubHTTPError("come again", response=_NO_ANSWER),
        HTTPError("come again"),  # no connection: what the client's HTTP library raises is no OSError
        ValueError("come again"),  # metadata of the card that the hub does not take
    ],
    ids=["the hub", "the network", "the card"],
)
def test_an_upload_that_fails_says_why_and_that_the_same_command_goes_on(
    tmp_path: Path,
    encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: Exception,
) -> None:
    assert _push(monkeypatch, _Hub(tmp_path / "hub", refuses=refusal), encoder, "--to", "me/mine") == 2
    assert "come again); mend that, or try again: the same command goes on" in capsys.readouterr().err


def test_nothing_of_the_encoder_that_was_there_before_is_read_beside_the_new_one(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = _Hub(tmp_path / "hub", "private")
    stale = [
        "model-00001-of-00002.safetensors", "model.safetensors.index.json", "debias.json", "debias_texts.npy",
        "adapter_config.json", "adapter/adapter_config.json", "3_Dense/config.json", "0_Transformer/config.json",
        "sentencepiece.bpe.model", "added_tokens.json",
    ]  # fmt: skip
    kept = [".gitattributes", "LICENSE", "notes.txt", "onnx/model.onnx", "figures/settings-old.png"]
    for name in [*stale, *kept, "README.md", "config.json"]:
        (hub.received / name).parent.mkdir(parents=True, exist_ok=True)
        (hub.received / name).write_text("of before")
    assert _push(monkeypatch, hub, encoder, "--to", "me/mine") == 0
    assert _names(hub.received) == _names(encoder) | set(kept)
    assert (hub.received / "config.json").read_bytes() == (encoder / "config.json").read_bytes()


def test_updates_of_low_rank_beside_the_weights_are_sent_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    folder = save_encoder(tmp_path / "encoder", lora=LoraConfig(rank=2))
    assert (folder / "adapter" / "adapter_config.json").is_file(), "else this test says nothing"
    hub = _Hub(tmp_path / "hub")
    assert _push(monkeypatch, hub, folder, "--to", "me/mine") == 0
    assert _names(hub.received) == _names(folder)
    assert str(tmp_path) not in (hub.received / "adapter" / "adapter_config.json").read_text()
