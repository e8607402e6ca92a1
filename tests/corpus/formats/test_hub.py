"""Hugging Face data sets on disk, in each of the ways in which their languages can be laid out."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from hybatch.errors import UserError
from tests.corpus.layouts import contents, opened

ENGLISH = {"qid": [1, 2], "query": ["Who?", "What?"], "text": ["He.", "That."], "hard": [["That."], []]}
GERMAN = {"qid": [2, 1], "query": ["Was?", "Wer?"], "text": ["Das.", "Er."], "hard": [[], ["Das.", "Es."]]}
COLUMNS = {"id": "qid", "question": "query", "passage": "text", "negatives": "hard"}
TEXTS = {
    "de": {"2": ("Was?", "Das."), "1": ("Wer?", "Er.")},
    "en": {"1": ("Who?", "He."), "2": ("What?", "That.")},
}


@pytest.fixture(autouse=True)
def _no_network_and_no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_saved_data_set_per_language(tmp_path: Path, as_dict: bool) -> None:
    for language, columns in (("en", ENGLISH), ("de", GERMAN)):
        dataset = datasets.Dataset.from_dict(columns)
        saved = datasets.DatasetDict({"train": dataset, "dev": dataset.select([0])}) if as_dict else dataset
        saved.save_to_disk(tmp_path / "c" / language)
    corpus = opened(tmp_path / "c", tmp_path, columns=COLUMNS)
    assert contents(corpus) == TEXTS
    assert corpus.hard_negatives([1, 0], [0, 1]) == [["Das.", "Es."], []]
    assert corpus.hard_negative_groups([1], [0]) == [[0, -1]]


@pytest.mark.parametrize("shown", [{"type": "numpy"}, {"type": "pandas"}, {"columns": ["qid", "text"]}])
def test_a_saved_data_set_is_read_whole_however_it_was_shown_last(tmp_path: Path, shown: dict[str, object]) -> None:
    datasets.Dataset.from_dict(ENGLISH).with_format(**shown).save_to_disk(tmp_path / "c")
    corpus = opened(tmp_path / "c", tmp_path, columns=COLUMNS, languages=["en"])
    assert contents(corpus) == {"en": TEXTS["en"]}
    assert corpus.hard_negatives([0], [0]) == [["That."]]


def test_one_saved_data_set_with_a_language_column(tmp_path: Path) -> None:
    both = {name: ENGLISH[name] + GERMAN[name] for name in ENGLISH} | {"lang": ["eng"] * 2 + ["deu"] * 2}
    datasets.Dataset.from_dict(both).save_to_disk(tmp_path / "c")
    columns = COLUMNS | {"language": "lang"}
    corpus = opened(tmp_path / "c", tmp_path, columns=columns, language_names={"en": "eng", "de": "deu"})
    assert contents(corpus) == TEXTS
    only = opened(
        tmp_path / "c", tmp_path, columns=columns, language_names={"en": "eng", "de": "deu"}, languages=["en"]
    )
    assert contents(only) == {"en": TEXTS["en"]}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_data_files_whose_names_hold_the_language(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "c").mkdir()
    for language, texts in (("english", ENGLISH), ("german", GERMAN)):
        dataset = datasets.Dataset.from_dict({name: texts[name] for name in ("qid", "query", "text")})
        path = tmp_path / "c" / f"my_{language}{suffix}"
        if suffix == ".parquet":
            dataset.to_parquet(path)
        elif suffix == ".jsonl":
            dataset.to_json(path)
        else:
            dataset.to_csv(path, sep="," if suffix == ".csv" else "\t")
    names = {"en": "english", "de": "german"}
    columns = {"id": "qid", "question": "query", "passage": "text"}
    path = tmp_path / "c" / f"my_{{language}}{suffix}"
    assert contents(opened(path, tmp_path, columns=columns, language_names=names)) == TEXTS


def test_one_language_without_ids_is_numbered_by_row(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"question": f"{i}?", "passage": f"{i}."}) + "\n" for i in range(3)))
    corpus = opened(path, tmp_path, columns={"id": "@row"}, languages=["en"])
    assert contents(corpus) == {"en": {str(i): (f"{i}?", f"{i}.") for i in range(3)}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing tells which language this is; name it in `languages`, put {language} into `path`, or"),
        ({"languages": ["de", "en"]}, "nothing tells the languages de, en apart"),
        ({"languages": ["en"]}, "no column 'id'; there are qid, query, text, hard: map ours to theirs"),
        ({"languages": ["en"], "columns": {"id": "qid", "question": "q"}}, "no column 'q'; there are"),
        ({"languages": ["en"], "columns": {"ID": "qid"}}, "`columns` maps 'ID', which is none of"),
        ({"columns": {"language": "lang"}}, "no column 'lang'"),
        ({"languages": ["en"], "columns": {"id": "query", "passage": "hard"}}, "row 0 of split train: 'passage' is"),
    ],
)
def test_a_data_set_that_does_not_fit_says_what_is_missing(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    datasets.Dataset.from_dict(ENGLISH).save_to_disk(tmp_path / "c")
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "c", tmp_path, **settings)


def test_a_split_or_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"dev": datasets.Dataset.from_dict(ENGLISH)}).save_to_disk(tmp_path / "c")
    with pytest.raises(UserError, match="no split 'train'; there are dev"):
        opened(tmp_path / "c", tmp_path, languages=["en"], columns=COLUMNS)
    with pytest.raises(UserError, match=r"fr\.jsonl: no such file or folder"):
        opened(tmp_path / "{language}.jsonl", tmp_path, languages=["fr"])


def test_a_hub_data_set_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody/nothing: cannot be loaded as a Hugging Face data set"):
        opened("nobody/nothing", tmp_path, languages=["en"])
