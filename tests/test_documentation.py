"""What the documents say of commands, tasks and encoders is what the package has."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from hybatch.cli import main
from hybatch.evaluation.catalogue.registry import TASKS
from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.sampling import COMPOSITIONS, KINDS
from hybatch.training.config import load_run_config
from tests.options import recipe_options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "slurm/README.md", ROOT / "study/README.md"]
DOCUMENTS = [str(page.relative_to(ROOT)) for page in PAGES]
_LAUNCH = re.compile(
    r"^accelerate launch (?:--config_file \S+ )?(?:hybatch/train\.py|-m hybatch\.train|-m hybatch train) "
)


def _blocks(name: str, kinds: str) -> list[str]:
    return re.findall(rf"^```(?:{kinds})\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)


def _commands(name: str) -> Iterator[str]:
    """The lines of code blocks that call hybatch, alone or launched; not those with arrays of a shell."""
    for block in _blocks(name, r"\w*"):
        for line in block.replace("\\\n", " ").splitlines():
            launched = _LAUNCH.sub("hybatch train ", line).replace("accelerate launch -m hybatch ", "hybatch ")
            if launched.startswith("hybatch ") and "${" not in launched:
                yield shlex.join(shlex.split(launched, comments=True))


COMMANDS = [(name, command) for name in DOCUMENTS for command in _commands(name)]


@pytest.fixture
def beside_my_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a checkout, with the README's recipe in it; it is the working folder."""
    for folder in ("configs", "study", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    (tmp_path / "my.yaml").write_text(_blocks("README.md", "yaml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class _ParsedError(Exception):
    """The command line was understood."""


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_every_command_is_one_that_the_command_line_understands(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch, beside_my_recipe: Path
) -> None:
    def stop_after(understand: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any, **options: Any) -> argparse.Namespace:
            understand(*arguments, **options)
            raise _ParsedError

        return parse

    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", stop_after(parser.parse_args))
    with pytest.raises(_ParsedError):
        main(shlex.split(command)[1:])


def test_every_configuration_that_a_command_names_is_there_or_made_by_the_page() -> None:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        made = set(re.findall(r"^\+\+\+ b/(configs/\S+)$", text, re.M))
        named = {file for block in _blocks(name, r"\w*") for file in re.findall(r"configs/[\w./-]+\w", block)}
        assert [file for file in named - made if not (ROOT / file).exists()] == [], name


RECIPES = [
    pytest.param(block, id=f"{name} {number}")
    for name in DOCUMENTS
    for number, block in enumerate(_blocks(name, "yaml"))
]


@pytest.mark.parametrize("block", RECIPES)
def test_every_recipe_is_one_that_training_reads(block: str, beside_my_recipe: Path) -> None:
    (beside_my_recipe / "block.yaml").write_text(block, encoding="utf-8")
    load_run_config(["--config", "my.yaml", "--config", "block.yaml"])


def test_every_option_of_a_recipe_that_a_page_names_is_one() -> None:
    known = {name.replace("[]", "") for name, _ in recipe_options()}
    sections = "|".join(sorted({name.partition(".")[0] for name in known if "." in name}))
    files = {"model.onnx", "model.safetensors"}
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(rf"`(?:--)?((?:{sections})\.[\w.]*\w)", text)) - files
        assert named <= known, name


def test_every_task_stands_in_the_table_with_its_licence_and_has_a_command() -> None:
    page, commands = (ROOT / "docs/tasks.md").read_text(encoding="utf-8"), list(_commands("docs/tasks.md"))
    _heading, *table = [line for line in page.splitlines() if line.startswith("| `")]
    rows = {cells[0].strip("`"): cells for cells in map(_cells, table)}
    assert set(rows) == set(TASKS)
    for name, entry in TASKS.items():
        cells = rows[name]
        assert len(cells) == 5
        assert all(cells)
        assert entry.licence in cells[4], name
        assert any(re.search(rf"--task {re.escape(name)}( |$)", command) for command in commands), name


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


def test_every_place_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:hybatch|csrc|tests|configs|study|slurm|benchmarks)/[\w./-]*)`", text)
    assert len(places) > 30
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_kind_of_batch_stands_in_the_table_of_kinds() -> None:
    page = (ROOT / "docs/sampling.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == {*KINDS, *COMPOSITIONS}


def test_every_bias_metric_stands_in_the_table_with_its_definition_and_source() -> None:
    page = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `[\w@]+` \| (?:multilingual|bilingual) \|.*$", page, re.M)
    better = {True: "higher", False: "lower", None: "neither"}
    assert rows == [
        f"| `{m.name}` | {m.pool} | {better[m.higher_is_better]} | {m.definition} | {m.source} |"
        for m in BIAS_METRICS.values()
    ]


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= set(
        re.findall(r"\((\w+\.md)\)", index)
    )


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
