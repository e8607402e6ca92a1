"""Where a corpus comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hybatch.corpus.formats.registry import FORMATS
from hybatch.options import check_options, limits

if not TYPE_CHECKING:
    # The command line takes its choices from here.
    CorpusFormat = Literal[("auto", *FORMATS)]
else:
    CorpusFormat = str


@dataclass(kw_only=True)
class CorpusConfig:
    """One data set of parallel questions and passages."""

    path: str
    """Folder, file, or Hugging Face hub id; `$VARIABLES` and `~` are expanded; `{language}` stands for a language's
    name in formats datasets and mrtydi; `embedded` is the corpus that comes with the package."""

    name: str = ""
    """What logs and tables call the corpus; by default the last part of `path`."""

    format: CorpusFormat = "auto"
    """jsonl: folder of <lang>.jsonl; squad: folder of <lang>.json as SQuAD or LAReQA have it; datasets: Hugging Face
    data set or data files; mmarco: texts by id, with triples or qrels; mrtydi: queries with positive and negative
    passages (Mr. TyDi, MIRACL); auto: told from the files there."""

    split: str = "train"
    """Split of a Hugging Face data set, and of mMARCO's queries."""

    columns: dict[str, str] | None = None
    """Format datasets: our column -> theirs, for id, question, passage, passage_id, negatives, positives and language;
    id may be `@row`, the row's number, for data sets whose rows are parallel."""

    languages: list[str] | None = None
    """Read only these languages; by default all there are."""

    language_names: dict[str, str] | None = None
    """Our language code -> the name that files or configurations use (en: english), where they differ."""

    subset: str | None = None
    """Configuration of a Hugging Face data set, in which `{language}` stands for the language's name."""

    revision: str | None = None
    """Revision of a hub data set. The index of a hub data set is kept until this changes."""

    parallel_ids: bool = False
    """Format mrtydi: a query id names the same content in every language (translated sets). Otherwise each language
    has questions of its own, as in the original sets."""

    positives: Literal["apart", "together"] = "apart"
    """Format mrtydi: apart makes an example of every positive passage of a query; together makes one of the query, with
    all of its positives."""

    judgements: str | None = None
    """Format mmarco: file of triples (query, positive, negative ids) or of qrels, below `path`; by default
    triples.train.ids.small.tsv, else qrels.<split>.tsv."""

    weight: float = field(default=1.0, metadata=limits(ge=0, le=1_000_000))
    """Of a data set to train on: 2 draws it twice as often as its size would have it drawn; 0 never."""

    query_prefix: str | None = None
    """Put before its queries in the place of the model's prefix; the model's folder keeps it, under `name`."""

    passage_prefix: str | None = None
    """Likewise, before its passages."""

    def __post_init__(self) -> None:
        check_options(self, "corpora")
