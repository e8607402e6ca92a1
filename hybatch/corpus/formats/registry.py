"""The formats that `corpora: - format: NAME` knows, in the order in which a path is asked for its format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from hybatch.corpus.formats import embedded, hub, jsonl, mmarco, mrtydi, squad
from hybatch.corpus.formats.entry import FormatEntry
from hybatch.errors import UserError

if TYPE_CHECKING:
    from hybatch.corpus.config import CorpusConfig

FORMATS: dict[str, FormatEntry] = {
    entry.name: entry
    for entry in (
        embedded.EMBEDDED,
        mmarco.MMARCO,
        hub.DATASETS,
        jsonl.JSONL,
        squad.SQUAD,
        mrtydi.MRTYDI,
    )
}


def find_format(config: CorpusConfig, path: str) -> FormatEntry:
    """The format of the corpus at `path`, expanded: the one that is named, else the first that recognises it.

    Raises:
        UserError: nothing of any format is there.
    """
    if config.format != "auto":
        return FORMATS[config.format]
    for entry in FORMATS.values():
        if entry.recognises(path):
            return entry
    folder = Path(path)
    if folder.is_dir():
        raise UserError(_unrecognised(folder, path))
    if re.fullmatch(hub.HUB_ID, path):
        raise UserError(
            f"{path}: no such folder or file in {folder.parent}/; mend the path, or say `format: datasets` if a "
            "data set of the hub is meant"
        )
    raise UserError(f"{path}: no such folder, and no hub id (owner/name)")


def _unrecognised(folder: Path, path: str) -> str:
    endings = sorted(ending for ending in (".csv", ".tsv", ".parquet") if any(folder.glob(f"*{ending}")))
    if not endings:
        return f"{path}: no <lang>.jsonl, <lang>.json or saved data set in this folder; name its `format`"
    file = f"{path.rstrip('/')}/{{language}}{endings[0]}"
    return f"{path}: a folder of {endings[0]} files; if their names are those of languages, give `path: {file}`"
