"""grid.yaml: what it says is what the report does, and what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hybatch.errors import UserError
from hybatch.reporting.grids.description import GridDescription, description_from, read_description
from hybatch.reporting.grids.groups import gather_grid
from hybatch.reporting.grids.record_folder import read_record_folder
from hybatch.reporting.grids.tables.all_tables import grid_tables
from hybatch.reporting.inputs import read_inputs
from tests.reporting.grids.synthetic import GRID_YAML, LANGUAGES, Spec, core, read_grid, write_record, write_records
from tests.reporting.mutations import mutated, read_or_named


def _described(**keys: Any) -> GridDescription:
    return description_from(keys, "grid.yaml")


def test_without_a_description_a_grid_has_tables_in_a_plain_order_and_no_claims(tmp_path: Path) -> None:
    specs = [*core(("zeta", "alpha", "scratch"), (1,)), Spec(start="alpha", sampling="en-en")]
    grid = read_grid(write_records(tmp_path, specs, tasks={"mlqa-r": LANGUAGES}, tatoeba=()), GridDescription())
    assert grid.starts == ("alpha", "zeta", "scratch")  # that from random weights last
    assert [group.label for group in grid.groups if group.start == "alpha"] == ["X-X-mono", "X-Y", "En-En", "hybrid"]
    assert [table.slug for table in grid_tables(grid)] == [
        "grid-summary",
        "grid-rank-distance-summary",
        "grid-mlqa-r-monolingual",
        "grid-mlqa-r-cross-lingual",
        "grid-mlqa-r-multilingual",
        "grid-mlqa-r-rank-distance",
        "grid-scratch",
        "grid-cost",
    ]


def test_starts_and_samplings_stand_and_are_called_as_described(tmp_path: Path) -> None:
    description = _described(
        name="sweep", starts={"zeta": {"label": "Zeta base"}}, samplings=["hybrid", "hybrid 0.25", "x-y"]
    )
    specs = [*core(("alpha", "zeta"), (1,)), Spec(start="zeta", alpha=0.25)]
    grid = read_grid(write_records(tmp_path, specs, tasks={"mlqa-r": LANGUAGES}, tatoeba=()), description)
    assert [row.label for row in grid_tables(grid)[0].rows] == [
        "Zeta base hybrid",
        "Zeta base hybrid 0.25",
        "Zeta base X-Y",
        "Zeta base X-X-mono",
        "alpha hybrid",
        "alpha X-Y",
        "alpha X-X-mono",
    ]


def test_any_sampling_may_be_claimed_against_any_number_of_rivals(tmp_path: Path) -> None:
    claims = [
        {"name": "one", "title": "First", "sampling": "x-y", "rivals": ["x-x-mono"]},
        {"name": "two", "title": "Second", "sampling": "hybrid 0.25", "rivals": ["x-x-mono", "x-y", "hybrid"]},
    ]
    specs = [*core(seeds=(1, 2)), *(Spec(alpha=0.25, seed=seed, level=0.2) for seed in (1, 2))]
    write_records(tmp_path, specs, tasks={"mlqa-r": LANGUAGES}, tatoeba=())
    tables = {table.slug: table for table in grid_tables(read_grid(tmp_path, _described(claims=claims)))}
    assert tables["grid-one"].title == "First: mAP of X-Y minus X-X-mono"
    assert tables["grid-two"].title == "Second: mAP of hybrid 0.25 minus the best of X-X-mono, X-Y and hybrid"
    assert {row.values[0] for row in tables["grid-two"].rows} == {"hybrid"}
    assert {row.values[-1] for row in tables["grid-two"].rows} == {"better"}
    assert "Holm: corrected for all 8 comparisons of the grid." in tables["grid-one"].note
    signs = {row.label: set(row.signs) for row in tables["grid-summary"].rows}
    assert signs["mini-xlmr hybrid 0.25"] == signs["mini-xlmr X-Y"] == {"†"}
    assert signs["mini-xlmr hybrid"] == {""}


def test_a_mixture_of_other_kinds_is_a_sampling_of_its_own(tmp_path: Path) -> None:
    mixture = Spec(sampling="hybrid x-y 0.6, x-en 0.4")
    specs = [mixture, Spec(sampling="x-en"), Spec(sampling="x-y")]
    grid = read_grid(write_records(tmp_path, specs, tasks={"mlqa-r": LANGUAGES}, tatoeba=()), GridDescription())
    assert [group.label for group in grid.groups] == ["X-Y", "X-En", "hybrid x-y 0.6, x-en 0.4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae: x", "'nmae' is not known; known are name, starts, samplings, tasks, claims, numbers"),
        ("name: ../x", "'name' is '../x'; expected a word"),
        ("name: [x]", "'name' is ['x']; expected a word"),
        ("starts: [a]", "'starts' is ['a']; expected an object"),
        ("starts: {a: {publishd: labse}}", "'starts.a.publishd' is not known"),
        ("starts: {a: {published: bert}}", "'starts.a.published' is 'bert'; expected one of xlm-r, labse"),
        ("samplings: x-y", "'samplings' is 'x-y'; expected a list of texts"),
        ("claims: {sampling: x-y}", "'claims' is {'sampling': 'x-y'}; expected a list"),
        ("claims: [{rivals: [x-y]}]", "'claims.0.sampling' is missing"),
        (
            "claims: [{sampling: x-y, rivals: []}]",
            "'claims.0.rivals' is []; expected one or more samplings other than x-y",
        ),
        ("claims: [{sampling: x-y, rivals: [x-y]}]", "expected one or more samplings other than x-y"),
        ("claims: [{sampling: a, rivals: [b]}, {sampling: a, rivals: [c]}]", "one claim of each sampling"),
        ("claims: [{sampling: a, rivals: [b]}, {sampling: b, rivals: [c]}]", "names that tell the claims apart"),
        ("numbers: {summary: 1}", "'numbers' is {'summary': 1}; expected an object of values that are each a list"),
        ("- x", "is ['x']; expected an object"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_wrong_in_a_description_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_description(tmp_path / "grid.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'grid.yaml'}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_value_is_named_or_understood(data: st.DataObject) -> None:
    value, keys = data.draw(mutated(yaml.safe_load(GRID_YAML)))
    description = read_or_named(lambda: description_from(value, "grid.yaml"), "grid.yaml: ", keys)
    assert description is None or isinstance(description, GridDescription)


def test_an_empty_description_is_none(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("# nothing yet\n")
    assert read_description(tmp_path / "grid.yaml") == GridDescription()


def test_the_description_beside_the_records_is_taken_and_two_are_refused(tmp_path: Path) -> None:
    one = write_records(tmp_path / "one", [Spec(sampling="x-y")])
    plain = write_record(tmp_path / "plain", Spec(sampling="x-x-mono"))
    grid = read_inputs([str(one), str(plain)]).grid
    assert grid is not None
    assert (grid.name, len(grid.runs)) == ("trial", 2)
    two = write_records(tmp_path / "two", [Spec(sampling="x-x")])
    with pytest.raises(UserError, match="records of two grids; report them one at a time"):
        read_inputs([str(one), str(two)])


def test_runs_of_no_described_grid_are_gathered_in_any_order(tmp_path: Path) -> None:
    runs = [read_record_folder(write_record(tmp_path, spec)) for spec in core(seeds=(1,))]
    forth, back = (gather_grid(order, GridDescription()) for order in (runs, runs[::-1]))
    assert [run.name for run in forth.runs] == [run.name for run in back.runs]
