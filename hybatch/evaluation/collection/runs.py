"""What was retrieved, and where the relevant passages stand, as files that other tools read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hybatch.atomic import atomic_file
from hybatch.errors import UserError
from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages


def write_run(
    directory: Path,
    language: str,
    one: QuerySet,
    passages: Passages,
    scores_QK: np.ndarray,
    found_QK: np.ndarray,
    numbers_P: np.ndarray,
    ranks_P: np.ndarray,
) -> None:
    """Write `<language>.trec` (query, Q0, passage, rank, score, hybatch) and `<language>.ranks.tsv`.

    The second holds query, relevant passage and its exact rank in the whole collection. Both name passages by their
    ids.

    Raises:
        UserError: the folder cannot be written.
    """
    named = passages.read_some([*found_QK.ravel().tolist(), *numbers_P.tolist()])
    try:
        with atomic_file(directory / f"{language}.trec") as file:
            for query, numbers, scores in zip(one.ids, found_QK.tolist(), scores_QK.tolist(), strict=True):
                for place, (number, score) in enumerate(zip(numbers, scores, strict=True), 1):
                    if number >= 0:
                        file.write(f"{query} Q0 {named[number].id} {place} {score:.9g} hybatch\n")
        owners = [query for query, relevant in zip(one.ids, one.relevant, strict=True) for _ in relevant]
        with atomic_file(directory / f"{language}.ranks.tsv") as file:
            for query, number, place in zip(owners, numbers_P.tolist(), ranks_P.tolist(), strict=True):
                file.write(f"{query}\t{named[number].id}\t{place}\n")
    except OSError as error:
        raise UserError(f"--save-run {directory}: cannot be written ({error.strerror or error})") from error
