"""What a configuration file holds and YAML's readers would lose or stumble over."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest

from hybatch.corpus import CorpusConfig
from hybatch.errors import UserError
from hybatch.sampling import SamplingConfig
from hybatch.training.config import LISTS_OF_SECTIONS, RunConfig, ValidationConfig, load_run_config
from hybatch.training.config_file import check_config_file, check_languages_of


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {steps: 5}\nseed: 1\ntraining: {chunk_size: 2}\n", ":3: training stands .*, after line 1;"),
        ("training:\n  steps: 5\n  steps: 6\n", ":3: steps stands here a second time, after line 2;"),
        ("corpora:\n  - path: a\n    path: b\n", ":3: path stands here a second time"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"run.yaml{message}"):
        check_config_file(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "run.yaml").write_bytes("output_dir: größe".encode(encoding))
    with pytest.raises(UserError, match=r"run\.yaml: not UTF-8 text .*; convert the file to UTF-8"):
        check_config_file(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: [\n", "is not YAML: .*line 2, column 1"),
        ("training:\n\tsteps: 5\n", "is not YAML: .*line 2, column 1"),
        ("", "holds no options: write"),
        ("# seed: 1\n", "holds no options: write"),
        ("- seed: 1\n", "holds no options: write"),
    ],
)
def test_of_several_files_the_one_that_holds_no_options_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\n", encoding="utf-8")
    (tmp_path / "over.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"(?s)^\S*over\.yaml {message}"):
        load_run_config(["--config", str(tmp_path / "run.yaml"), "--config", str(tmp_path / "over.yaml")])


@pytest.mark.parametrize("text", ["\ufeffseed: 1\n", "a: {b: 1}\nc: {b: 1}\n", "? [a]\n: 1\n? [a]\n: 2\n"])
def test_all_else_is_left_to_the_parser(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    check_config_file(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampling:\n  languages: [no, en]\n", ":2: languages has no, which YAML reads as false; quote it: 'no'"),
        ("sampling:\n  exclude_languages:\n  - de\n  - off\n", ":4: exclude_languages has off, .*; quote it: 'off'"),
        ("validation: {languages: [de, No]}\n", ":1: languages has No, which YAML reads as false; quote it: 'No'"),
        ("corpora:\n- path: a\n  languages: [yes]\n", ":3: languages has yes, which YAML reads as true;"),
        ("corpora:\n- path: a\n  language_names: {no: norsk}\n", ":3: language_names has no, .*; quote it: 'no'"),
    ],
)
def test_a_language_that_yaml_reads_as_false_is_to_be_quoted(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"run.yaml{message}"):
        check_config_file(str(tmp_path / "run.yaml"))


def test_quoted_languages_and_booleans_of_other_options_are_left_alone(tmp_path: Path) -> None:
    text = "sampling: {languages: ['no', \"off\", nb]}\ntraining: {compile: no}\nloss: {symmetric: yes}\n"
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    check_config_file(str(tmp_path / "run.yaml"))
    check_languages_of(["--sampling.languages", "['no', en]", "--training.compile", "no", "--loss.symmetric=yes", "["])


@pytest.mark.parametrize(
    "argv",
    [
        ["--sampling.languages", "[no, en]"],
        ["--sampling.languages=[en, no]"],
        ["--seed", "1", "--sampling.exclude_languages", "[no]"],
        ["--validation", "{languages: [no]}"],
        ["--corpora=[{path: a, languages: [no]}]"],
    ],
)
def test_a_language_on_the_command_line_that_yaml_reads_as_false_is_to_be_quoted(argv: list[str]) -> None:
    with pytest.raises(UserError, match=r"--\w+.*languages has no, which YAML reads as false; quote it: 'no'"):
        load_run_config(argv)


@pytest.mark.parametrize(
    "overlay", [["--config", "other.yaml"], ["--corpora", "[{path: b}]"], ["--corpora=[{path: b}]"]]
)
def test_a_list_of_data_sets_takes_nothing_from_the_one_it_replaces(
    overlay: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(
        "output_dir: out\ncorpora: [{path: a, languages: [de, en], weight: 3}]\n", encoding="utf-8"
    )
    Path("other.yaml").write_text("corpora: [{path: b}]\n", encoding="utf-8")
    assert load_run_config(["--config", "run.yaml", *overlay]).corpora == [CorpusConfig(path="b")]


@pytest.mark.parametrize("addition", [["--corpora+", "{path: c}"], ["--corpora+={path: c}"]])
def test_a_data_set_that_is_added_comes_behind_the_list_that_held_where_it_was_added(
    addition: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("output_dir: out\ncorpora: [{path: a, weight: 3}]\n", encoding="utf-8")
    argv = ["--config", "run.yaml", "--corpora=[{path: b}]", *addition]
    assert load_run_config(argv).corpora == [CorpusConfig(path="b"), CorpusConfig(path="c")]


def test_a_list_that_a_later_file_takes_away_does_not_come_back(tmp_path: Path) -> None:
    files = []
    for number, phases in enumerate(("[{kind: x-y, share: 1}]", "[{kind: x-x, share: 1}]", "null")):
        files += ["--config", str(tmp_path / f"{number}.yaml")]
        Path(files[-1]).write_text(f"sampling: {{kind: sequential, phases: {phases}}}\n", encoding="utf-8")
    config = load_run_config([*files, "--output_dir", "out", "--corpora", "[{path: a}]"])
    assert config.sampling.phases is None


def test_every_list_of_sections_is_replaced_whole() -> None:
    sections = {"": RunConfig, "sampling.": SamplingConfig, "validation.": ValidationConfig}
    found = {
        f"{prefix}{name}"
        for prefix, section in sections.items()
        for name, hint in get_type_hints(section).items()
        for part in (hint, *get_args(hint))
        if get_origin(part) is list and is_dataclass(get_args(part)[0])
    }
    assert found == set(LISTS_OF_SECTIONS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--config .*nowhere\.yaml: No such file"):
        load_run_config(["--config", str(tmp_path / "nowhere.yaml")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sampling: {batchsize: 8}",
            "Group 'sampling' does not accept option 'batchsize'; near names: sampling.batch_size",
        ),
        ("corpora: [{path: a, weigt: 2}]", "corpora has no option 'weigt': it must be a list, each {path, name, "),
        ("loss: {alignment: {knd: jsd}}", "loss.alignment has no option 'knd': it must be "),
    ],
)
def test_an_option_that_there_is_not_is_named_beside_those_that_there_are(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "run.yaml").write_text(f"output_dir: out\n{text}\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        load_run_config(["--config", str(tmp_path / "run.yaml")])
    with pytest.raises(UserError, match=re.escape("--trainin.steps 3; near names: training.steps")):
        load_run_config(["--output_dir", "out", "--corpora", "[{path: a}]", "--trainin.steps", "3"])
