"""The paper's claim as two small tables, mAP and rank distance: hybrid against the better of its two parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hybatch.reporting.study.claims import LEVEL, RESAMPLES, Claim
from hybatch.reporting.study.rows import SPREAD_NOTE, task_name
from hybatch.reporting.tables import HEADINGS, Column, ReportTable, Row


def claim_tables(claims: Sequence[Claim]) -> list[ReportTable]:
    """One table for mAP and one for rank distance, without rows where there is no such claim."""
    return [
        _table(
            "study-claim",
            "The claim: mAP of hybrid minus the better of X-X-mono and X-Y",
            [one for one in claims if one.measure.metric == "map"],
            claims,
        ),
        _table(
            "study-claim-rank-distance",
            "The claim: rank distance of hybrid minus the better (smaller) of X-X-mono and X-Y",
            [one for one in claims if one.measure.metric == "rank_distance"],
            claims,
        ),
    ]


def _table(slug: str, title: str, members: Sequence[Claim], family: Sequence[Claim]) -> ReportTable:
    digits = members[0].measure.digits if members else 0
    fine = digits + 1
    return ReportTable(
        slug=slug,
        title=title,
        columns=(
            Column("better rival", higher_is_better=None),
            Column("its figure", digits, None),
            Column("hybrid", digits, None),
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
        note=_note(members, family),
    )


def _row(claim: Claim) -> Row:
    test = claim.test
    tested = (test.difference, test.low, test.high, test.p_value, test.p_corrected) if test else (None,) * 5
    rival, hybrid = claim.rival_figure, claim.hybrid_figure
    seeds = f"{claim.seeds_better} of {claim.seeds_common}"
    values = (claim.rival.label, rival.mean, hybrid.mean, claim.difference, *tested, seeds, claim.verdict)
    absent = (None,) * (len(values) - 3)
    return Row(
        f"{claim.start} {task_name(claim.task)} {HEADINGS[claim.measure.slug]}",
        values,
        block=claim.start,
        deviations=(None, rival.sd, hybrid.sd, *absent),
        counts=(None, rival.n, hybrid.n, *absent),
    )


def _note(members: Sequence[Claim], family: Sequence[Claim]) -> str:
    tested = sum(one.test is not None for one in family)
    counted = Counter(one.verdict for one in members)
    verdicts = ", ".join(f"{verdict} in {counted[verdict]}" for verdict in sorted(counted))
    return (
        f"Hybrid is {verdicts} of {len(members)}. {SPREAD_NOTE} The rival is the one with the better mean here, chosen "
        "on the same figures, which favours it where both are close. Difference: of the means that the tables show, "
        "over languages or pairs. Over questions: of each question's mean over its languages or pairs and the seeds, "
        "with the 95% bootstrap interval and the p value of a paired sign-flip test that draw the parallel question as "
        f"one unit ({RESAMPLES:,} resamples); the two differences are equal where every question exists in every "
        f"language. Holm: corrected for all {tested} comparisons of the study. Verdict: p (Holm) < {LEVEL}, and both "
        "differences of one sign. The test speaks of other questions, not of other training runs: for these see ± and "
        "in how many of the seeds common to both hybrid is better."
    )
