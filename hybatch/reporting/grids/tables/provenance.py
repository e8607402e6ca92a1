"""Which runs a grid's tables are made of."""

from __future__ import annotations

from hybatch.reporting.grids.groups import Grid
from hybatch.reporting.grids.tables.rows import group_name, task_name
from hybatch.reporting.tables.words import TextTable

_DIGITS = 12


def grid_provenance(grid: Grid) -> list[TextTable]:
    """Every run with its backbone, commit and tasks, and the versions that runs share."""
    rows = []
    versions: dict[str, list[str]] = {}
    for group in grid.groups:
        for run in group.runs:
            rows.append(
                (
                    run.name,
                    group_name(group),
                    str(run.seed),
                    " ".join(run.unseen_languages) or "–",
                    _short(run.backbone_sha256),
                    _short(run.commit),
                    ", ".join(task_name(task) for task in run.results) or "–",
                )
            )
            named = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
            versions.setdefault(named, []).append(run.name)
    headings = ("run", "start and sampling", "seed", "unseen", "backbone (SHA-256)", "commit", "scored on")
    whose = {named: "all runs" if len(versions) == 1 else ", ".join(runs) for named, runs in versions.items()}
    return [
        TextTable(f"Runs of the {grid.name}", headings, tuple(rows)),
        TextTable("Versions", ("runs", "versions"), tuple((runs, named) for named, runs in whose.items())),
    ]


def _short(digest: str | None) -> str:
    """The first digits, and the "+" of a checkout with changes."""
    if digest is None:
        return "–"
    return digest[:_DIGITS] + ("+" if digest.endswith("+") else "")
