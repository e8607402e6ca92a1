"""Records as hybatch 0.1.0 wrote them, a folder each:

    study.json              what the run was: the fields of `Run`, up to `commit`
    metrics.jsonl           the rows of the training: {"step", "kind", "loss"} and {"step", "validation": {...}}
    <task>/results.json     of hybatch evaluate
    <task>/questions.npz    figures of every parallel question, for tasks with language settings: `QuestionFigures`

N parallel questions of a task.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.results import RESULTS
from hybatch.evaluation.settings.per_query import DAMAGED
from hybatch.reporting.checked_json import Checked
from hybatch.reporting.grids.records import MEND, QUESTION_FIGURES, QuestionFigures, Run, ids_digest, run_fields
from hybatch.reporting.results import Results, read_results
from hybatch.reporting.run_metrics import METRICS, read_metrics

STUDY = "study.json"
QUESTIONS = "questions.npz"


def read_record_folder(folder: Path) -> Run:
    """Read the record in a folder.

    Raises:
        UserError: a file is missing, damaged or of something else; the message names it, the field and the mend.
    """
    path = folder / STUDY
    try:
        record = Checked(json.loads(path.read_text(encoding="utf-8")), str(path), MEND)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {MEND}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed JSON ({error}); {MEND}") from error
    fields = run_fields(record)
    results: dict[str, Results] = {}
    questions = {}
    for file in sorted(folder.glob(f"*/{RESULTS}")):
        task = file.parent.name
        one = results[task] = read_results(file)
        if one.task != task:
            raise UserError(f"{file}: 'task' is {one.task!r} in the folder {task}; evaluate again")
        if (file.parent / QUESTIONS).is_file():
            questions[task] = _read_questions(file.parent / QUESTIONS, one.languages)
    metrics = folder / METRICS
    curve = read_metrics(metrics) if metrics.is_file() else ()
    return Run(**fields, results=results, questions=questions, curve=curve, path=path)


def _read_questions(path: Path, languages: tuple[str, ...]) -> QuestionFigures:
    mend = "write the record again from the evaluation's per_query.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            tables = {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise UserError(f"{path}: damaged or no .npz file ({error}); {mend}") from error
    if lacking := [name for name in ("languages", "ids", *QUESTION_FIGURES) if name not in tables]:
        raise UserError(f"{path}: lacks {', '.join(lacking)}; {mend}")
    if tuple(tables["languages"].tolist()) != languages:
        raise UserError(
            f"{path}: 'languages' are {' '.join(map(str, tables['languages'].tolist()))}, those of the {RESULTS} "
            f"beside it {' '.join(languages)}; {mend}"
        )
    ids = tables["ids"]
    if ids.ndim != 1 or ids.dtype.kind != "U" or not len(ids) or not (ids[:-1] < ids[1:]).all():
        raise UserError(f"{path}: 'ids' are not sorted texts, each once; {mend}")
    figures = {}
    for name in QUESTION_FIGURES:
        values = tables[name]
        if values.shape != ids.shape or values.dtype.kind != "f" or np.isinf(values).any():
            raise UserError(
                f"{path}: {name!r} is {values.dtype}{list(values.shape)}; expected {len(ids)} figures; {mend}"
            )
        figures[name] = values.astype(np.float32)
    return QuestionFigures(ids_sha256=ids_digest(ids.tolist()), **figures)
