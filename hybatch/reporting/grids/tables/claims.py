"""A claim as two small tables, mAP and rank distance: a sampling against the better of its rivals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hybatch.reporting.grids.claims import LEVEL, RESAMPLES, ClaimOutcome
from hybatch.reporting.grids.description import Claim
from hybatch.reporting.grids.groups import Grid
from hybatch.reporting.grids.tables.rows import SPREAD_NOTE, task_name
from hybatch.reporting.tables.table import Column, ReportTable, Row


def claim_tables(grid: Grid, tested: Sequence[ClaimOutcome]) -> Iterator[ReportTable]:
    """Of each claim one table for mAP and one for rank distance, without rows where there is no such comparison."""
    for claim in grid.claims:
        own = [one for one in tested if one.claim is claim]
        yield _table(
            f"{grid.name}-{claim.name}",
            f"{claim.title}: mAP of {claim.label} minus {claim.against()}",
            claim,
            [one for one in own if one.measure.metric == "map"],
            _family(grid, tested),
        )
        yield _table(
            f"{grid.name}-{claim.name}-rank-distance",
            f"{claim.title}: rank distance of {claim.label} minus {claim.against(' (smaller)')}",
            claim,
            [one for one in own if one.measure.metric == "rank_distance"],
            _family(grid, tested),
        )


def _family(grid: Grid, tested: Sequence[ClaimOutcome]) -> str:
    return f"all {sum(one.test is not None for one in tested)} comparisons of the {grid.name}"


def _table(slug: str, title: str, claim: Claim, members: Sequence[ClaimOutcome], family: str) -> ReportTable:
    digits = members[0].measure.digits if members else 0
    fine = digits + 1
    return ReportTable(
        slug=slug,
        title=title,
        columns=(
            Column("better rival", higher_is_better=None),
            Column("its figure", digits, None),
            Column(claim.label, digits, None),
            Column("difference", fine, None),
            Column("over questions", fine, None),
            Column("95% from", fine, None),
            Column("to", fine, None),
            Column("p", 4, None),
            Column("p (Holm)", 4, None),
            Column("better seeds", higher_is_better=None),
            Column("verdict", higher_is_better=None),
        ),
        rows=tuple(_row(one) for one in members),
        note=_note(claim, members, family),
    )


def _row(one: ClaimOutcome) -> Row:
    test = one.test
    tested = (test.difference, test.low, test.high, test.p_value, test.p_corrected) if test else (None,) * 5
    rival, own = one.rival_figure, one.figure
    seeds = f"{one.seeds_better} of {one.seeds_common}"
    values = (one.rival.label, rival.mean, own.mean, one.difference, *tested, seeds, one.verdict)
    absent = (None,) * (len(values) - 3)
    start = one.group.start_label
    return Row(
        f"{start} {task_name(one.task)} {one.measure.heading}",
        values,
        block=one.group.start,
        deviations=(None, rival.sd, own.sd, *absent),
        counts=(None, rival.n, own.n, *absent),
    )


def _note(claim: Claim, members: Sequence[ClaimOutcome], family: str) -> str:
    counted = Counter(one.verdict for one in members)
    verdicts = ", ".join(f"{verdict} in {counted[verdict]}" for verdict in sorted(counted))
    chosen = (
        "The rival is the one with the better mean here, chosen on the same figures, which favours it where both are "
        "close. "
    )
    return (
        f"{claim.label[:1].upper()}{claim.label[1:]} is {verdicts} of {len(members)}. {SPREAD_NOTE} "
        f"{chosen if len(claim.rivals) > 1 else ''}Difference: of the means that the tables show, "
        "over languages or pairs. Over questions: of each question's mean over its languages or pairs and the seeds, "
        "with the 95% bootstrap interval and the p value of a paired sign-flip test that draw the parallel question as "
        f"one unit ({RESAMPLES:,} resamples); the two differences are equal where every question exists in every "
        f"language. Holm: corrected for {family}. Verdict: p (Holm) < {LEVEL}, and both "
        "differences of one sign. The test speaks of other questions, not of other training runs: for these see ± and "
        f"in how many of the seeds common to both {claim.label} is better."
    )
