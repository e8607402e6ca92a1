"""`hybatch compare`: from result folders to differences with intervals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybatch.errors import UserError
from hybatch.evaluation.bitext import BitextTask, score_bitext
from hybatch.evaluation.results import write_results
from hybatch.evaluation.settings.bias_metrics import BIAS_METRICS
from hybatch.evaluation.settings.per_query import QueryTables, read_query_tables, write_query_tables
from hybatch.evaluation.settings.scoring import score
from hybatch.evaluation.settings.task import LabelledTexts, join_by_label
from hybatch.reporting.compare import main
from tests.evaluation.synthetic import MemoryEmbeddings

LANGUAGES = ("ar", "de", "en", "zh")
QUESTIONS = 24
FAST = ["--resamples", "300"]


def _evaluate(
    folder: Path,
    noise: float,
    languages: tuple[str, ...] = LANGUAGES,
    shift: int = 0,
    name: str = "made",
    silent: str | None = None,
) -> Path:
    """A parallel task that a model gets right but for its noise; German lacks the first four questions.

    silent: a language that has candidates and no question.
    """
    rng = np.random.default_rng(int(100 * noise))
    meanings = np.random.default_rng(0).normal(size=(QUESTIONS, 8))
    texts, queries, candidates = {}, {}, {}
    for language in languages:
        asked = list(range(4 if language == "de" else 0, QUESTIONS))
        labels = [f"q{i + shift}" for i in asked]
        questions = [] if language == silent else labels
        texts[language] = LabelledTexts(questions, questions, labels, [[label] for label in labels])
        for table in (queries, candidates):
            rows = meanings[asked] + noise * rng.normal(size=(len(asked), 8))
            table[language] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        queries[language] = queries[language][: len(questions)]
    per_query: QueryTables = {}
    task = join_by_label(name, texts)
    embeddings = MemoryEmbeddings(queries, candidates)
    results = score(embeddings, task, model=f"runs/{folder.name}/final", progress=False, per_query=per_query)
    write_results(folder, results, {}, per_query)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("compared")
    return str(_evaluate(root / "weak", 2.0)), str(_evaluate(root / "strong", 0.5))


def _compared(folders: tuple[str, ...], output: Path, *options: str) -> dict[str, Any]:
    assert main([*folders, "--output", str(output), *FAST, *options]) == 0
    return json.loads((output / "comparison.json").read_text())


def _by_name(compared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in compared["rows"]}


def test_every_row_holds_the_figures_of_the_results(folders: tuple[str, str], tmp_path: Path) -> None:
    compared = _compared(folders, tmp_path)
    weak, strong = (json.loads((Path(folder) / "results.json").read_text()) for folder in folders)
    for row in compared["rows"]:
        for side, results in (("baseline", weak), ("value", strong)):
            if row["section"] == "summary":
                expected = results["summary"][row["kind"]]["map"]
            elif row["section"] == "setting":
                x, y = row["query_language"], row["candidate_language"]
                expected = (results["multilingual"][x] if y == "all" else results["pairs"][x][y])["map"]
            else:
                continue
            assert row[side] == pytest.approx(expected, abs=1e-12), row["name"]
        assert row["difference"] == pytest.approx(row["value"] - row["baseline"], abs=1e-12)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_value"] <= row["p_corrected"] <= 1
    assert sum(row["section"] == "setting" for row in compared["rows"]) == 4 * 4 + 4
    assert [row["section"] for row in compared["rows"][:3]] == ["summary"] * 3


def test_a_better_model_is_found_better_and_a_result_equals_itself(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better = _by_name(_compared(folders, tmp_path / "better"))["multilingual"]
    assert better["low"] > 0
    assert better["p_value"] == pytest.approx(1 / 301)
    assert "strong: better than weak in" in capsys.readouterr().out
    same = _compared((f"a={folders[0]}", f"b={folders[0]}"), tmp_path / "same")
    assert {(row["difference"], row["low"], row["high"], row["p_value"]) for row in same["rows"]} == {(0, 0, 0, 1)}


def test_the_three_files_hold_the_same_rows_and_equal_runs_equal_bytes(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    compared = _compared(folders, tmp_path / "a")
    with open(tmp_path / "a" / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in compared["rows"]]
    assert [float(row["p_corrected"]) for row in rows] == [row["p_corrected"] for row in compared["rows"]]
    page = (tmp_path / "a" / "comparison.md").read_text()
    assert all(f"| strong | {row['name']} |" in page for row in rows)
    _compared(folders, tmp_path / "b")
    for name in ("comparison.md", "comparison.csv", "comparison.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_several_results_are_each_compared_with_the_first(folders: tuple[str, str], tmp_path: Path) -> None:
    middle = _evaluate(tmp_path / "middle", 1.0)
    compared = _compared((*folders, str(middle)), tmp_path / "out")
    names = [row["compared"] for row in compared["rows"] if row["section"] == "summary"]
    assert [name.split("/")[-1] for name in names] == ["strong"] * 3 + ["middle"] * 3
    summary = [row for row in compared["rows"] if row["section"] == "summary"]
    assert max(row["p_corrected"] for row in summary if row["p_value"] < 0.004) == pytest.approx(6 / 301)


def test_the_breakdown_averages_the_settings_of_a_kind_of_language(folders: tuple[str, str], tmp_path: Path) -> None:
    compared = _compared(folders, tmp_path, "--trained-languages", "en", "de", "ar")
    rows = _by_name(compared)
    unseen = rows["training unseen: cross-lingual to"]
    settings = [rows[f"{x} → zh"]["difference"] for x in ("ar", "de", "en")]
    assert unseen["difference"] == pytest.approx(np.mean(settings))
    assert (unseen["num_settings"], unseen["num_queries"]) == (3, 24 + 20 + 24)
    assert rows["training seen: monolingual"]["num_settings"] == 3
    assert rows["script Latin: multilingual"]["num_settings"] == 2
    assert rows["family Sino-Tibetan: multilingual"]["difference"] == rows["zh → all"]["difference"]
    # All four languages are of resource class 5: nothing to tell apart.
    assert not any(name.startswith("resources") for name in rows)


def test_a_language_that_asks_nothing_is_told_apart_as_one_of_candidates(tmp_path: Path) -> None:
    folders = tuple(str(_evaluate(tmp_path / name, noise, silent="zh")) for name, noise in (("a", 2.0), ("b", 0.5)))
    rows = _by_name(_compared(folders, tmp_path / "out", "--trained-languages", "ar", "de", "en"))
    unseen = rows["training unseen: cross-lingual to"]
    assert unseen["difference"] == pytest.approx(np.mean([rows[f"{x} → zh"]["difference"] for x in ("ar", "de", "en")]))
    assert "training unseen: monolingual" not in rows


@pytest.mark.parametrize("metric", ["rank_distance", "own_language_first"])
def test_measures_of_language_bias_are_compared_in_the_pool(
    folders: tuple[str, str], tmp_path: Path, metric: str
) -> None:
    compared = _compared(folders, tmp_path, "--metric", metric)
    assert {row["kind"] for row in compared["rows"]} == {"multilingual"}
    row = _by_name(compared)["multilingual"]
    if metric == "rank_distance":
        for side, folder in zip(("baseline", "value"), folders, strict=True):
            results = json.loads((Path(folder) / "results.json").read_text())
            assert row[side] == pytest.approx(results["summary"]["multilingual"]["rank_distance"])
    assert set(compared["language_bias"]) == {"weak", "strong"}


def test_every_bias_metric_is_tested_over_the_languages_whatever_the_metric_of_the_rows(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = _compared(folders, tmp_path)
    weak, strong = (
        json.loads((Path(folder) / "results.json").read_text())["language_bias"]["summary"] for folder in folders
    )
    rows = {row["name"]: row for row in compared["bias_rows"]}
    assert set(rows) == {m.name for m in BIAS_METRICS.values() if strong[m.pool][m.name] is not None}
    for name, row in rows.items():
        pool = BIAS_METRICS[name].pool
        assert row["baseline"] == pytest.approx(weak[pool][name], abs=1e-12), name
        assert row["value"] == pytest.approx(strong[pool][name], abs=1e-12), name
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_value"] <= row["p_corrected"] <= 1
        assert (row["kind"], row["num_settings"]) == (pool, 3 if pool == "bilingual" else 4)
    assert rows["last_rank"]["high"] < 0
    assert rows["bilingual_map"]["low"] > 0
    assert "Language bias: every metric" in capsys.readouterr().out
    assert "| strong | english_inclination |" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize("metric", ["english_inclination", "lang_ndcg@10", "peer_others@10"])
def test_a_bias_metric_tested_by_itself_has_the_row_that_it_has_among_all(
    folders: tuple[str, str], tmp_path: Path, metric: str
) -> None:
    compared = _compared(folders, tmp_path, "--metric", metric)
    [row] = [row for row in compared["rows"] if row["section"] == "summary"]
    [among_all] = [row for row in compared["bias_rows"] if row["name"] == metric]
    assert row["name"] == row["kind"] == among_all["kind"]
    for key in ("baseline", "value", "difference", "num_settings", "num_queries"):
        assert row[key] == pytest.approx(among_all[key], abs=1e-12), key
    if metric == "english_inclination":
        assert {r["name"] for r in compared["rows"] if r["section"] == "setting"} == {
            f"{x} → own+English" for x in ("ar", "de", "zh")
        }


def test_results_from_before_the_metrics_were_are_tested_by_none_but_those_that_they_have(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    old = _evaluate(tmp_path / "old", 1.0)
    tables = read_query_tables(old / "per_query.npz")
    later = BIAS_METRICS.keys() - {"rank_distance"}
    write_query_tables(old / "per_query.npz", {k: v for k, v in tables.items() if k.split("/")[0] not in later})
    compared = _compared((folders[0], str(old)), tmp_path / "out")
    assert "bias_rows" not in compared
    assert "every metric" not in (tmp_path / "out" / "comparison.md").read_text()
    with pytest.raises(UserError, match=r"--metric last_rank: .* by map, .*, rank_distance, own_language_first$"):
        main([folders[0], str(old), "--metric", "last_rank", *FAST])


def test_a_metric_without_a_figure_is_refused(folders: tuple[str, str]) -> None:
    # Every question has one answer a language, of which the ranks of the answers say nothing.
    with pytest.raises(UserError, match="--metric peer_answers@10: task made can be compared by map, "):
        main([*folders, "--metric", "peer_answers@10", *FAST])


def test_the_languages_of_all_best_candidates_stand_beside_those_of_the_pool(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = _compared(folders, tmp_path)
    strong = json.loads((Path(folders[1]) / "results.json").read_text())["top_languages"]
    assert compared["language_bias"]["strong"]["top_languages"] == strong
    assert f"strong: of all candidates in the top 10, {strong['top']['10']['own']:.1%}" in capsys.readouterr().out
    page = (tmp_path / "comparison.md").read_text()
    shares = " | ".join(f"{strong['top']['10']['mean_share'][x]:.3f}" for x in LANGUAGES)
    assert f"| strong, top 10 | {shares} |" in page


def test_results_from_before_these_shares_were_counted_are_compared_without(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    old = _evaluate(tmp_path / "old", 1.0)
    results = json.loads((old / "results.json").read_text())
    del results["top_languages"]
    (old / "results.json").write_text(json.dumps(results))
    compared = _compared((folders[0], str(old)), tmp_path / "out")
    assert compared["language_bias"]["old"]["top_languages"] is None


def _translate(folder: Path, noise: float) -> Path:
    """Translation retrieval in three languages with sentences of their own."""
    rng = np.random.default_rng(int(100 * noise))
    queries, candidates, texts = {}, {}, {}
    for number, language in enumerate(("afr", "deu", "xho")):
        pivot = np.random.default_rng(number).normal(size=(60 + number, 6))
        rows = pivot + noise * rng.normal(size=pivot.shape)
        queries[language], candidates[language] = (
            (part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32) for part in (rows, pivot)
        )
        texts[language] = [f"{language} {line}" for line in range(len(pivot))]
    task = BitextTask("translations", ("afr", "deu", "xho"), texts, texts, {"some": ("afr", "xho")})
    per_query: QueryTables = {}
    results = score_bitext(MemoryEmbeddings(queries, candidates), task, model=folder.name, per_query=per_query)
    write_results(folder, results, {}, per_query)
    return folder


def test_tasks_without_language_pairs_are_compared_language_by_language(tmp_path: Path) -> None:
    both = tuple(str(_translate(tmp_path / name, noise)) for name, noise in (("weak", 1.2), ("strong", 0.4)))
    compared = _compared(both, tmp_path / "out", "--trained-languages", "de", "af")
    weak, strong = (json.loads((Path(folder) / "results.json").read_text()) for folder in both)
    assert compared["options"]["metric"] == "accuracy_to_pivot"
    rows = _by_name(compared)
    for side, results in (("baseline", weak), ("value", strong)):
        for language in ("afr", "deu", "xho"):
            assert rows[language][side] == pytest.approx(results["figures"][language]["accuracy_to_pivot"])
        for name in ("mean", "some"):
            assert rows[name][side] == pytest.approx(results["summary"][name]["accuracy_to_pivot"])
    assert rows["mean"]["low"] > 0
    assert rows["mean"]["p_value"] == pytest.approx(1 / 301)
    assert (rows["deu"]["num_queries"], rows["some"]["num_settings"]) == (61, 2)
    assert rows["training unseen"]["difference"] == pytest.approx(rows["xho"]["difference"])
    assert rows["resources 5"]["difference"] == pytest.approx(rows["deu"]["difference"])
    assert compared["language_bias"] == {}
    assert "bias_rows" not in compared
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "Language bias" not in page
    other = _by_name(_compared(both, tmp_path / "margin", "--metric", "margin_accuracy_from_pivot"))
    assert other["xho"]["value"] == pytest.approx(strong["figures"]["xho"]["margin_accuracy_from_pivot"])


def test_a_metric_that_the_task_lacks_is_refused_with_those_that_it_has(tmp_path: Path) -> None:
    folder = str(_translate(tmp_path / "one", 1.0))
    with pytest.raises(UserError, match="--metric map: task translations can be compared by accuracy_to_pivot, "):
        main([f"a={folder}", f"b={folder}", "--metric", "map", *FAST])


def test_results_of_mteb_are_refused(tmp_path: Path) -> None:
    folder = _translate(tmp_path / "one", 1.0)
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "task": "mteb/Tatoeba"}))
    with pytest.raises(UserError, match="mteb keeps no figures of single queries"):
        main([f"a={folder}", f"b={folder}", *FAST])


def test_bca_intervals_are_said_and_differ(folders: tuple[str, str], tmp_path: Path) -> None:
    percentile, bca = (_compared(folders, tmp_path / x, "--interval", x) for x in ("percentile", "bca"))
    assert "95% BCa interval" in (tmp_path / "bca" / "comparison.md").read_text()
    assert [row["p_value"] for row in bca["rows"]] == [row["p_value"] for row in percentile["rows"]]
    assert [row["low"] for row in bca["rows"]] != [row["low"] for row in percentile["rows"]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"languages": ("ar", "de", "en")}, "languages .*only results of one task"),
        ({"shift": 1}, "other ar questions"),
        ({"name": "another"}, "task another, but"),
    ],
    ids=["languages", "ids", "task"],
)
def test_results_of_other_data_are_refused(
    folders: tuple[str, str], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    other = _evaluate(tmp_path / "other", 1.0, **changed)
    with pytest.raises(UserError, match=message):
        main([folders[0], str(other), *FAST])


def test_figures_of_another_evaluation_are_noticed(folders: tuple[str, str], tmp_path: Path) -> None:
    mixed = _evaluate(tmp_path / "mixed", 1.0)
    (mixed / "per_query.npz").write_bytes((Path(folders[1]) / "per_query.npz").read_bytes())
    with pytest.raises(UserError, match="does not belong to"):
        main([folders[0], str(mixed), *FAST])


def test_results_without_the_figures_of_every_query_are_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    old = _evaluate(tmp_path / "old", 1.0)
    (old / "per_query.npz").unlink()
    with pytest.raises(UserError, match=r"per_query\.npz: missing; evaluate again"):
        main([folders[0], str(old), *FAST])


def test_a_folder_with_the_results_of_several_tasks_needs_the_task(folders: tuple[str, str], tmp_path: Path) -> None:
    for name in ("made", "another"):
        _evaluate(tmp_path / "run" / name, 1.0, name=name)
    with pytest.raises(UserError, match="give one of these, or --task"):
        main([folders[0], str(tmp_path / "run"), *FAST])
    assert main([folders[0], str(tmp_path / "run"), "--task", "made", *FAST]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resamples", "10"], "--resamples is 10"),
        (["--confidence", "95"], "--confidence is 95"),
        (["--seed", "-1"], "--seed is -1"),
    ],
)
def test_options_out_of_range_are_refused(folders: tuple[str, str], options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([*folders, *options])


def test_one_result_alone_is_refused(folders: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="two or more"):
        main([folders[0]])


def test_too_few_resamples_to_find_anything_are_said(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _compared(folders, tmp_path)
    assert "give more --resamples" in capsys.readouterr().out
