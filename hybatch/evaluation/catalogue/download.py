"""The files of a task from the Hugging Face hub, into the publisher's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download

from hybatch.errors import UserError
from hybatch.evaluation.catalogue.entry import TaskEntry


def download(entry: TaskEntry, data_dir: Path, languages: Sequence[str] | None) -> None:
    """Fetch what is not below `data_dir` yet; files that are there and unchanged are not fetched again.

    A file appears whole or not at all, and a broken download goes on where it was; the hub's client compares sizes and
    digests.

    Raises:
        UserError: the task is not on the hub, or the hub cannot be reached or refuses.
    """
    if not entry.hub:
        where = entry.download or "your own files"
        raise UserError(
            f"--download: task {entry.name} is not on the hub in its publisher's layout; get it from {where}"
        )
    for files in entry.hub:
        patterns = [pattern for language in languages or ("*",) for pattern in files.patterns(language)]
        try:
            snapshot_download(
                files.repository, repo_type="dataset", allow_patterns=patterns, local_dir=data_dir / files.folder
            )
        except Exception as error:  # the client raises many kinds, and each means that these files cannot be had
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"--download: {files.repository} cannot be fetched: {reason}") from error
