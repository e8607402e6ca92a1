"""The package's own corpus as a source of rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from hybatch.corpus.formats.entry import FormatEntry, from_rows
from hybatch.corpus.rows import RowBatch, check_languages
from hybatch.errors import UserError

_FOLDER = Path(__file__).parents[1] / "embedded"


class EmbeddedSource:
    """Rows of the corpus that comes with the package; it is small enough to be held in memory.

    Raises:
        UserError: a language asked for is none of the corpus's.
    """

    place = "the embedded corpus"
    work_unit = "rows"

    def __init__(self, languages: Sequence[str] | None) -> None:
        from hybatch.corpus.embedded import training_rows

        self._rows: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
        for identifier, language, question, passage, passage_id in training_rows():
            self._rows[language].append((identifier, question, passage, passage_id))
        for language in languages or ():
            if language not in self._rows:
                raise UserError(f"the embedded corpus has no {language!r}; it has {', '.join(sorted(self._rows))}")
        self.languages = check_languages(list(languages or self._rows), self.place)
        self.total_work = sum(len(self._rows[language]) for language in self.languages)

    def batches(self, language: str) -> Iterator[RowBatch]:
        """The rows of one language."""
        ids, questions, passages, passage_ids = (list(column) for column in zip(*self._rows[language], strict=True))
        yield RowBatch(
            ids=ids,
            questions=questions,
            passages=passages,
            passage_ids=passage_ids,
            place=lambda row: f"the embedded corpus, {language}, row {row}",
            work=len(ids),
        )


EMBEDDED = FormatEntry(
    name="embedded",
    description="`path: embedded`: the corpus that comes with the package",
    recognises=lambda path: path == "embedded",
    source=lambda path: _FOLDER,
    reads=lambda path: [_FOLDER],
    fields=frozenset(("passage_ids",)),
    build=from_rows(lambda config, path: EmbeddedSource(config.languages)),
)
