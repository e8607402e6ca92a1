"""`hybatch card`: results in a model card, as tables, as a figure, and as the hub's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hybatch import cli
from hybatch.evaluation.mteb.model import load_model
from hybatch.models import Encoder
from hybatch.models.card import CARD
from hybatch.models.card.base import front_matter
from hybatch.publishing.encoder_files import encoder_files
from tests.publishing.saved import save_encoder
from tests.reporting.synthetic import make_results


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "encoder")


def _results(folder: Path, model: Path | str, level: float = 0.5, **options: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(make_results(str(model), level, **options)))
    return folder


def _card(encoder: Path, *arguments: object) -> int:
    return cli.main(["card", str(encoder), "--results", *map(str, arguments)])


def _metrics(card: Path) -> dict[tuple[str, str, str], float]:
    """(task, setting, metric) -> value, of the metadata as the hub's own library reads it."""
    found = ModelCard.load(card).data.eval_results
    return {(one.dataset_type, str(one.dataset_config), one.metric_type): one.metric_value for one in found or []}


def test_metadata_table_and_figure_say_what_was_measured(tmp_path: Path, encoder: Path) -> None:
    own = _results(tmp_path / "own", encoder)
    base = _results(tmp_path / "base", "them/base", 0.3)
    assert _card(encoder, f"trained={own}", f"before={base}") == 0
    summary = json.loads((own / "results.json").read_text())["summary"]
    assert _metrics(encoder / CARD) == {
        ("mlqa-r", "monolingual", "map"): summary["monolingual"]["map"],
        ("mlqa-r", "cross-lingual", "map"): summary["cross_lingual"]["map"],
        ("mlqa-r", "multilingual", "map"): summary["multilingual"]["map"],
        ("mlqa-r", "multilingual", "rank_distance"): summary["multilingual"]["rank_distance"],
    }
    text = (encoder / CARD).read_text(encoding="utf-8")
    assert "| trained |" in text
    assert "| before |" in text
    assert "Published" not in text
    assert (encoder / "figures" / "settings-mlqa-r.png").read_bytes().startswith(b"\x89PNG")
    assert "](figures/settings-mlqa-r.png)" in text


def test_the_card_says_with_what_else_than_the_encoder_s_own_it_was_measured(tmp_path: Path, encoder: Path) -> None:
    own = _results(tmp_path / "own", encoder)
    results = json.loads((own / "results.json").read_text()) | {"prefixes": {"query": "ask: "}, "precision": "bf16"}
    (own / "results.json").write_text(json.dumps(results))
    assert _card(encoder, f"mine={own}") == 0
    said = "this encoder as mine (query prefix 'ask: ', encoded in bf16)."
    assert said in (encoder / CARD).read_text(encoding="utf-8")


def test_a_byte_order_mark_before_a_card_hides_nothing_of_it(tmp_path: Path, encoder: Path) -> None:
    card = ModelCard.load(encoder / CARD)
    card.data.license = "cc-by-4.0"
    (encoder / CARD).write_text(str(card), encoding="utf-8-sig")
    assert front_matter(encoder / CARD)["license"] == "cc-by-4.0"
    assert _card(encoder, _results(tmp_path / "own", encoder)) == 0
    text = (encoder / CARD).read_text(encoding="utf-8")
    assert ModelCard(text).data.license == "cc-by-4.0"
    assert text.count("license:") == 1


def test_what_people_wrote_stays_and_a_second_call_replaces_what_the_first_wrote(tmp_path: Path, encoder: Path) -> None:
    card = ModelCard.load(encoder / CARD)
    card.data.license, card.data.model_name = "cc-by-4.0", "Mine"
    (encoder / CARD).write_text(f"{card}\nMy own words.\n", encoding="utf-8")
    assert _card(encoder, _results(tmp_path / "first", encoder, 0.2)) == 0
    first = (encoder / CARD).read_text(encoding="utf-8")
    (encoder / CARD).write_text(first + "\nMore words.\n", encoding="utf-8")
    again = _results(tmp_path / "again", encoder, 0.6)
    assert _card(encoder, again) == 0
    text = (encoder / CARD).read_text(encoding="utf-8")
    assert text.count("## Results") == 1
    assert text.index("My own words.") < text.index("## Results") < text.index("More words.")
    assert ModelCard.load(encoder / CARD).data.license == "cc-by-4.0"
    summary = json.loads((again / "results.json").read_text())["summary"]
    assert _metrics(encoder / CARD)["mlqa-r", "monolingual", "map"] == summary["monolingual"]["map"]
    assert _card(encoder, again) == 0
    assert (encoder / CARD).read_text(encoding="utf-8") == text


def test_norwegian_stays_a_language(tmp_path: Path, encoder: Path) -> None:
    (encoder / CARD).write_text("---\nlanguage:\n- no\n- sv\ntags: [no, on]\nlicense: mit\n---\n# Mine\n")
    assert front_matter(encoder / CARD)["language"] == ["no", "sv"]
    assert _card(encoder, _results(tmp_path / "own", encoder)) == 0
    facts = ModelCard.load(encoder / CARD).data
    assert (facts.language, facts.tags, facts.license) == (["no", "sv"], ["no", "on"], "mit")


def test_metadata_of_other_tasks_stay(tmp_path: Path, encoder: Path) -> None:
    assert _card(encoder, _results(tmp_path / "one", encoder)) == 0
    other = _results(tmp_path / "other", encoder, task="faq", languages=("de", "en"))
    assert _card(encoder, other) == 0
    assert {task for task, _, _ in _metrics(encoder / CARD)} == {"mlqa-r", "faq"}


def test_the_folder_stays_an_encoder_that_can_be_sent_and_is_the_same_to_mteb(tmp_path: Path, encoder: Path) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed; pip install 'hybatch[mteb]'")
    prompts = {"query": "q", "document": "d"}
    before = load_model("encoder", encoder, prompts, device="cpu").mteb_model_meta.revision
    assert _card(encoder, _results(tmp_path / "one", encoder)) == 0
    assert Path("figures/settings-mlqa-r.png") in encoder_files(encoder)
    assert Encoder.load(encoder).card == (encoder / CARD).read_text(encoding="utf-8")
    assert load_model("encoder", encoder, prompts, device="cpu").mteb_model_meta.revision == before


def test_with_an_output_the_encoder_s_folder_is_left_alone(tmp_path: Path, encoder: Path) -> None:
    before = {path: path.read_bytes() for path in encoder.rglob("*") if path.is_file()}
    assert _card(encoder, _results(tmp_path / "one", encoder), "--output", tmp_path / "out") == 0
    assert {path: path.read_bytes() for path in encoder.rglob("*") if path.is_file()} == before
    assert (tmp_path / "out" / CARD).is_file()
    assert (tmp_path / "out" / "figures" / "settings-mlqa-r.png").is_file()


def test_results_made_elsewhere_are_taken_by_the_name_that_they_have(tmp_path: Path, encoder: Path) -> None:
    elsewhere = _results(tmp_path / "one", "/cluster/run/final")
    assert _card(encoder, elsewhere) == 2
    assert _card(encoder, elsewhere, "--measured-as", "/cluster/run/final") == 0


def test_a_folder_without_a_card_gets_one(tmp_path: Path, encoder: Path) -> None:
    written = (encoder / CARD).read_text(encoding="utf-8")
    (encoder / CARD).unlink()
    assert _card(encoder, _results(tmp_path / "one", encoder)) == 0
    assert written.split("---\n", 2)[2].strip() in (encoder / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path, encoder: [_results(path / "one", "them/other")], "are of them/other, not of"),
        (
            lambda path, encoder: [_results(path / "one", encoder), _results(path / "two", encoder)],
            "several of this encoder on mlqa-r",
        ),
        (lambda path, encoder: [path / "nowhere"], "no such file or folder"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str], prepare: Any, message: str
) -> None:
    results = prepare(tmp_path, encoder)
    before = (encoder / CARD).read_bytes()
    assert _card(encoder, *results) == 2
    assert message in capsys.readouterr().err
    assert (encoder / CARD).read_bytes() == before


def test_a_card_whose_front_matter_is_damaged_is_left_as_it_is(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = "---\na: [\n---\n# x\n"
    (encoder / CARD).write_text(damaged)
    assert _card(encoder, _results(tmp_path / "one", encoder)) == 2
    assert "front matter cannot be read" in capsys.readouterr().err
    assert (encoder / CARD).read_text() == damaged
