"""The package's own corpus opens like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybatch.corpus.embedded import LANGUAGES, training_rows
from hybatch.errors import UserError
from tests.corpus.layouts import opened


def test_the_embedded_corpus_gives_back_its_training_rows(tmp_path: Path) -> None:
    corpus = opened("embedded", tmp_path)
    assert corpus.name == "embedded"
    assert corpus.languages == tuple(sorted(LANGUAGES))
    number = {identifier: i for i, identifier in enumerate(corpus.ids(slice(None)))}
    rows = list(training_rows())
    examples = np.array([number[row[0]] for row in rows])
    in_language = np.array([corpus.languages.index(row[1]) for row in rows])
    assert corpus.questions(examples, in_language) == [row[2] for row in rows]
    assert corpus.passages(examples, in_language) == [row[3] for row in rows]
    groups = corpus.passage_groups(examples).tolist()
    assert len(set(zip(groups, [row[4] for row in rows], strict=True))) == corpus.num_groups == len(set(groups))


def test_a_language_that_it_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the embedded corpus has no 'fr'; it has ar, de"):
        opened("embedded", tmp_path, languages=["fr"])
