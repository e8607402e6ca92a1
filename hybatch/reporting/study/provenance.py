"""Which runs the study's tables are made of."""

from __future__ import annotations

from hybatch.reporting.study.aggregate import Study
from hybatch.reporting.study.rows import group_name, task_name

_DIGITS = 12


def study_provenance(study: Study) -> str:
    """A Markdown section: every run with its backbone, commit and tasks, then the versions that they share."""
    lines = [
        "### Runs of the study\n",
        "| run | start and sampling | seed | unseen | backbone (SHA-256) | commit | scored on |",
        "|---|---|---:|---|---|---|---|",
    ]
    versions: dict[str, list[str]] = {}
    for group in study.groups:
        for run in group.runs:
            cells = (
                run.name,
                group_name(group),
                str(run.seed),
                " ".join(run.unseen_languages) or "–",
                _short(run.backbone_sha256),
                _short(run.commit),
                ", ".join(task_name(task) for task in run.results) or "–",
            )
            lines.append("| " + " | ".join(cells) + " |")
            named = ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items()))
            versions.setdefault(named, []).append(run.name)
    lines.append("")
    for named, runs in versions.items():
        whose = "all runs" if len(versions) == 1 else ", ".join(runs)
        lines.append(f"Versions ({whose}): {named}.\n")
    return "\n".join(lines)


def _short(digest: str | None) -> str:
    """The first digits, and the "+" of a checkout with changes."""
    if digest is None:
        return "–"
    return digest[:_DIGITS] + ("+" if digest.endswith("+") else "")
