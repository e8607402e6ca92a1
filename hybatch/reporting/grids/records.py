"""One run of a grid as it is kept: what it was, how it trained, what it reached on every task.

A record is a file `<name>.record.json` (`record_file.py`), or a folder with a study.json (`record_folder.py`), which
hybatch 0.1.0 wrote.

N parallel questions of a task.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybatch.reporting.checked_json import Checked, Wrong, by_name, count, names, number, number_or_none, text
from hybatch.reporting.results import Results
from hybatch.reporting.samplings import HYBRID, sampling_label
from hybatch.sampling import SamplingConfig

RECORD = ".record.json"
MEND = "write the record again from the run"
DEFAULT_ALPHA = SamplingConfig.alpha
QUESTION_FIGURES = ("monolingual", "cross_lingual", "multilingual", "rank_distance")


@dataclass(frozen=True, eq=False, kw_only=True)
class QuestionFigures:
    """Figures of the parallel questions of one task: of each, the mean over its languages, or ordered pairs of them.

    ids_sha256: of the questions' ids, see `ids_digest`; the figures stand in the order of the sorted ids.
    monolingual, cross_lingual, multilingual: float32 [N], average precision; NaN where a question has no positive.
    rank_distance: float32 [N], worst minus best rank of its positives in the pool of all languages; NaN likewise.
    """

    ids_sha256: str
    monolingual: np.ndarray
    cross_lingual: np.ndarray
    multilingual: np.ndarray
    rank_distance: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One run.

    start: the backbone that fine-tuning started from.
    backbone_sha256: of its weights; None where they were random.
    sampling: `sampling.kind`, "hybrid-scheduled" where the shares change over the run, or what a mixture is called.
    alpha: the share of X-X-mono batches, of sampling "hybrid" only.
    unseen_languages: those of the tasks that fine-tuning left out.
    chosen_step: of `steps`, the one whose weights were evaluated, for its `selection_loss` on the validation set.
    config: the resolved configuration of the training.
    commit: of the checkout that trained it, with "+" where it had changes; None outside of a checkout.
    results: task -> its results.
    questions: task -> its questions, for the tasks that have their figures.
    curve: rows {"step", "kind", "loss"}, then {"step", "validation": {...}}, as `learning_curves` takes them.
    path: the file that says what the run was.
    """

    name: str
    start: str
    backbone_sha256: str | None
    sampling: str
    alpha: float | None
    seed: int
    unseen_languages: tuple[str, ...]
    steps: int
    chosen_step: int
    selection_loss: float
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    commit: str | None
    results: Mapping[str, Results]
    questions: Mapping[str, QuestionFigures]
    curve: Sequence[Mapping[str, Any]]
    path: Path

    @property
    def sampling_key(self) -> str:
        """What a grid's description calls the sampling: hybrid with its alpha, unless that is the default."""
        other = self.alpha is not None and self.alpha != DEFAULT_ALPHA
        return f"{self.sampling} {self.alpha:g}" if other else self.sampling

    @property
    def sampling_label(self) -> str:
        """What tables call it."""
        return sampling_label(self.sampling_key)


def ids_digest(ids: Sequence[str]) -> str:
    """SHA-256, in hex, of sorted ids, a line each."""
    return hashlib.sha256("".join(f"{one}\n" for one in ids).encode("utf-8")).hexdigest()


def run_fields(at: Checked) -> dict[str, Any]:
    """The fields of a Run, up to `commit`, from the object of a record.

    Raises:
        UserError: one is missing, wrong, or does not go with another.
    """
    fields: dict[str, Any] = {
        "name": at.get("name", text),
        "start": at.get("start", text),
        "backbone_sha256": at.get("backbone_sha256", sha256_or_none),
        "sampling": at.get("sampling", text),
        "alpha": at.get("alpha", _share_or_none),
        "seed": at.get("seed", count),
        "unseen_languages": tuple(sorted(at.get("unseen_languages", names))),
        "steps": at.get("steps", count),
        "chosen_step": at.get("chosen_step", count),
        "selection_loss": at.get("selection_loss", number),
        "config": at.child("config").value,
        "versions": at.get("versions", by_name(text)),
        "commit": at.get("commit", _text_or_none),
    }
    if (fields["sampling"] == HYBRID) != (fields["alpha"] is not None):
        at.refuse(
            "alpha", f"a number with sampling {HYBRID!r} and null with any other, which is {fields['sampling']!r}"
        )
    if fields["chosen_step"] > fields["steps"]:
        at.refuse("chosen_step", f"at most 'steps', {fields['steps']}")
    return fields


def sha256_or_none(value: Any) -> str | None:
    """64 hexadecimal digits, or null."""
    if value is not None and not (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
        raise Wrong("64 hexadecimal digits, or null without a backbone")
    return value


def _share_or_none(value: Any) -> float | None:
    share = number_or_none(value)
    if share is not None and not 0 <= share <= 1:
        raise Wrong("a number within 0 to 1, or null")
    return share


def _text_or_none(value: Any) -> str | None:
    return None if value is None else text(value)
