"""--query-prefix and --passage-prefix take the place of what the model says, and results name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybatch.errors import UserError
from hybatch.evaluation.command import evaluate
from hybatch.evaluation.results import dump
from hybatch.models import Encoder, EncoderConfig, FreshBackboneConfig, build_encoder
from tests.evaluation.collection.fakes import fake, write_beir
from tests.evaluation.conftest import WORDS

SENTENCES = Path(__file__).parents[2] / "written_before" / "sentences"


def _model(folder: Path, query: str, passage: str) -> Path:
    """The same weights and tokenizer whatever the prefixes."""
    config = EncoderConfig(
        fresh=FreshBackboneConfig(width=16, layers=1, heads=2, vocabulary_size=320, dropout=0.0),
        query_prefix=query,
        passage_prefix=passage,
    )
    build_encoder(config, seed=0, texts=WORDS).save(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Made without prefixes, and with those that the tests give."""
    folder = tmp_path_factory.mktemp("models")
    return {"without": _model(folder / "a", "", ""), "with": _model(folder / "b", "ask one: ", "tell two: ")}


def _bare(results: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in results.items() if name not in ("model", "prefixes")}


@pytest.mark.parametrize("task", ["parallel", "beir-like", "tatoeba"])
def test_prefixes_given_do_what_the_models_own_do(
    task: str, models: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = {"parallel": data, "beir-like": write_beir(tmp_path / "c", fake()), "tatoeba": SENTENCES}[task]
    arguments = ["--task", task, "--data-dir", str(folder), "--index", str(tmp_path / "index")]
    given = ["--query-prefix", "ask one: ", "--passage-prefix", "tell two: "]
    own = evaluate([*arguments, "--model", str(models["with"])]).results
    none = evaluate([*arguments, "--model", str(models["without"])]).results
    over = evaluate([*arguments, "--model", str(models["without"]), *given]).results
    assert dump(_bare(own)) == dump(_bare(over))
    assert dump(_bare(own)) != dump(_bare(none))
    assert "prefixes" not in own
    expected = {"query": "ask one: ", "passage": "tell two: "}
    if task == "tatoeba":
        expected.pop("passage")
        assert "--passage-prefix: task tatoeba has no text that is encoded as a passage" in capsys.readouterr().err
    assert over["prefixes"] == expected


def test_an_empty_prefix_takes_the_models_own_away(models: dict[str, Path], data: Path) -> None:
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model"]
    none = evaluate([*arguments, str(models["without"])]).results
    emptied = evaluate([*arguments, str(models["with"]), "--query-prefix", "", "--passage-prefix", ""]).results
    assert dump(_bare(none)) == dump(_bare(emptied))
    assert emptied["prefixes"] == {"query": "", "passage": ""}


def test_shards_of_one_prefix_are_not_those_of_another(models: dict[str, Path], tmp_path: Path) -> None:
    data = write_beir(tmp_path / "c", fake())
    arguments = ["--task", "beir-like", "--data-dir", str(data), "--index", str(tmp_path / "i"), "--model"]
    for more in ([], ["--passage-prefix", "tell: "], ["--passage-prefix", "tell: "]):
        evaluate([*arguments, str(models["without"]), *more])
    assert len(list((tmp_path / "i" / "beir-like").iterdir())) == 2


def test_results_with_other_prefixes_are_kept(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model", str(models["without"])]
    arguments += ["--output", str(tmp_path / "out")]
    evaluate(arguments)
    before = (tmp_path / "out" / "results.json").read_bytes()
    with pytest.raises(UserError, match=r"holds the results of prefixes None, not \{'query': 'ask'\}.*--overwrite"):
        evaluate([*arguments, "--query-prefix", "ask"])
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_prefixes_that_nothing_can_be_done_with_are_refused(
    models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    arguments = ["--task", "parallel", "--data-dir", str(data)]
    with pytest.raises(UserError, match="--passage-prefix: goes with --model"):
        evaluate([*arguments, "--embeddings", str(tmp_path), "--passage-prefix", "p: "])
    with pytest.raises(UserError, match=r"--query-prefix: .*query_max_length and leave 0 for the text"):
        evaluate([*arguments, "--model", str(models["without"]), "--query-prefix", "seven " * 80])


def test_a_prompt_by_name_does_what_its_two_prefixes_do(models: dict[str, Path], data: Path, tmp_path: Path) -> None:
    encoder = Encoder.load(models["without"])
    encoder.prompts = {"faq.query": "ask one: ", "faq.passage": "tell two: ", "half.query": "x"}
    encoder.save(tmp_path / "named")
    assert Encoder.load(tmp_path / "named").prompts == encoder.prompts
    arguments = ["--task", "parallel", "--data-dir", str(data), "--model", str(tmp_path / "named")]
    named = evaluate([*arguments, "--prompt", "faq"]).results
    own = evaluate(["--task", "parallel", "--data-dir", str(data), "--model", str(models["with"])]).results
    assert dump(_bare(named)) == dump(_bare(own))
    assert named["prefixes"] == {"query": "ask one: ", "passage": "tell two: "}
    for more, message in (
        (["--prompt", "half"], r"--prompt half: .* keeps no prompts of that name; there are faq$"),
        (["--prompt", "faq", "--query-prefix", ""], "--prompt faq and --query-prefix: give one or the other"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate([*arguments, *more])
    with pytest.raises(UserError, match="it has none but its own"):
        evaluate([*arguments[:-1], str(models["with"]), "--prompt", "faq"])
    with pytest.raises(UserError, match="--prompt: goes with --model"):
        evaluate([*arguments[:-2], "--embeddings", str(tmp_path), "--prompt", "faq"])
