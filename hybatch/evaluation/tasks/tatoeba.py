"""Tatoeba: sentences of 112 languages and their English translations, by line (Artetxe and Schwenk, TACL 2019).

The files are those of LASER's first release, at most 1,000 sentences a language, which XTREME (arXiv 2003.11080) and
XTREME-R take 36 languages of. Languages go by their ISO 639-3 codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from hybatch.errors import UserError
from hybatch.evaluation.bitext import BitextTask
from hybatch.evaluation.catalogue.entry import TaskEntry
from hybatch.evaluation.files import read_lines

XTREME_LANGUAGES = (
    "afr", "ara", "ben", "bul", "cmn", "deu", "ell", "est", "eus", "fin", "fra", "heb", "hin", "hun", "ind", "ita",
    "jav", "jpn", "kat", "kaz", "kor", "mal", "mar", "nld", "pes", "por", "rus", "spa", "swh", "tam", "tel", "tgl",
    "tha", "tur", "urd", "vie",
)  # fmt: skip
XQUAD_R_LANGUAGES = ("ara", "cmn", "deu", "ell", "hin", "rus", "spa", "tha", "tur", "vie")
"""Those of XQuAD-R besides English."""
DOWNLOAD = "https://github.com/facebookresearch/LASER/tree/main/data/tatoeba/v1"


def tatoeba_languages(data_dir: Path) -> list[str]:
    """The languages whose files are in `data_dir/tatoeba`.

    Raises:
        UserError: there is none.
    """
    folder = data_dir / "tatoeba"
    found = [re.fullmatch(r"tatoeba\.(\w+)-eng\.(\w+)", path.name) for path in sorted(folder.glob("tatoeba.*-eng.*"))]
    languages = [match[1] for match in found if match and match[1] == match[2]]
    if not languages:
        raise TATOEBA.missing([folder / "tatoeba.<xxx>-eng.<xxx>"])
    return languages


def _load(name: str, data_dir: Path, languages: Sequence[str]) -> BitextTask:
    sentences, translations = {}, {}
    for language in languages:
        paths = [data_dir / "tatoeba" / f"tatoeba.{language}-eng.{side}" for side in (language, "eng")]
        if missing := [path for path in paths if not path.is_file()]:
            raise TATOEBA.missing(missing)
        sentences[language], translations[language] = ([line for _, line in read_lines(path)] for path in paths)
        if len(sentences[language]) != len(translations[language]):
            raise UserError(
                f"{paths[0]}: {len(sentences[language])} lines, but {paths[1].name} has "
                f"{len(translations[language])}; line i of one must translate line i of the other"
            )
        if not sentences[language]:
            raise UserError(f"{paths[0]}: no line")
    return BitextTask(
        name=name,
        languages=tuple(languages),
        queries=sentences,
        candidates=translations,
        subsets={"xtreme": tuple(x for x in languages if x in XTREME_LANGUAGES)},
    )


def _entry(name: str, summary: str, languages: Sequence[str] | Callable[[Path], Sequence[str]]) -> TaskEntry:
    return TaskEntry(
        name=name,
        summary=summary,
        languages=languages,
        settings="each language's sentences against their English translations, both ways",
        metric="accuracy, by cosine and by ratio margin (k = 4)",
        source="LASER, arXiv 1812.10464",
        licence="CC BY 2.0 FR",
        layout="tatoeba/tatoeba.<xxx>-eng.<xxx> and tatoeba/tatoeba.<xxx>-eng.eng",
        download=DOWNLOAD,
        load=lambda data_dir, wanted: _load(name, data_dir, wanted),
    )


TATOEBA = _entry("tatoeba", "translation retrieval against English, LASER's 112 languages", tatoeba_languages)
TATOEBA_XTREME = _entry(
    "tatoeba-xtreme", "translation retrieval against English, XTREME's 36 languages", XTREME_LANGUAGES
)
