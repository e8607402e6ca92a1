"""In which languages a model was trained, as far as its run folder says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hybatch.errors import UserError
from hybatch.paths import expand_path

CONFIG = "config.yaml"


def training_languages(model: str) -> list[str] | None:
    """The languages of the run that a model folder lies in; None where that cannot be known.

    Read from the run's config.yaml: the languages of its corpora, less those that its sampling leaves out. Where the
    configuration takes every language of a corpus, they are those of the corpus' <lang>.jsonl files, if these are here.
    """
    for folder in Path(model).parents:
        if (folder / CONFIG).is_file():
            return _from_config(folder / CONFIG)
    return None


def _from_config(path: Path) -> list[str] | None:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if not isinstance(config, dict) or not isinstance(config.get("sampling"), dict) or not config.get("corpora"):
        return None
    sampling: Mapping[str, Any] = config["sampling"]
    corpora = [_of_corpus(corpus) for corpus in config["corpora"]]
    if sampling.get("languages"):
        found = set(sampling["languages"])
    elif all(corpora):
        found = {language for corpus in corpora for language in corpus}
    else:
        return None
    return sorted(found - set(sampling.get("exclude_languages") or ()))


def _of_corpus(corpus: Mapping[str, Any]) -> list[str]:
    if corpus.get("languages"):
        return list(corpus["languages"])
    try:
        folder = Path(expand_path(str(corpus.get("path")), "path"))
    except UserError:
        return []
    return [file.stem for file in folder.glob("*.jsonl")]
