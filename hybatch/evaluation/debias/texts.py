"""Which texts of which corpora the means are taken over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hybatch.corpus import ParallelCorpus
from hybatch.errors import UserError
from hybatch.models import Role

Texts = dict[Role, dict[str, list[str]]]
"""role -> language -> distinct texts."""


def draw_texts(corpora: Sequence[ParallelCorpus], languages: Sequence[str] | None, examples: int) -> Texts:
    """At most `examples` of each language, role and corpus; equal texts of a language and role once.

    Examples that every one of the languages has come first, spread evenly over the corpus, then others: as far as a
    corpus is parallel, the means are taken over the same content in every language.

    Args:
        languages: two or more; by default all that any of the corpora has.

    Raises:
        UserError: a language is in no corpus, fewer than two are left, or one has no question or no passage.
    """
    known = sorted({language for corpus in corpora for language in corpus.languages})
    names = ", ".join(corpus.name for corpus in corpora)
    if unknown := sorted(set(languages or ()) - set(known)):
        raise UserError(f"--languages {' '.join(unknown)}: not in --fit {names}, which has {' '.join(known)}")
    wanted = sorted(set(languages or known))
    if len(wanted) < 2:
        raise UserError(
            f"--fit {names}: the language {wanted[0]} alone; what tells languages apart needs texts in two or more"
        )
    texts: Texts = {"query": {}, "passage": {}}
    for role, of_language in texts.items():
        for language in wanted:
            found = [text for corpus in corpora for text in _draw(corpus, role, language, wanted, examples)]
            if not found:
                kind = "question" if role == "query" else "passage"
                raise UserError(f"--fit {names}: no {kind} in {language}; leave it out of --languages, or add a corpus")
            of_language[language] = list(dict.fromkeys(found))
    return texts


def _draw(corpus: ParallelCorpus, role: Role, language: str, wanted: Sequence[str], examples: int) -> list[str]:
    if language not in corpus.languages:
        return []
    place = corpus.languages.index(language)
    masks, read = _side(corpus, role)
    here = np.flatnonzero(masks & np.uint64(1 << place))
    everything = np.uint64(sum(1 << corpus.languages.index(one) for one in wanted if one in corpus.languages))
    in_all = (masks[here] & everything) == everything
    first = _spread(here[in_all], examples)
    chosen = np.concatenate([first, _spread(here[~in_all], examples - len(first))])
    return read(chosen, np.full(len(chosen), place))


def _side(corpus: ParallelCorpus, role: Role) -> tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], list[str]]]:
    if role == "query":
        return corpus.question_mask(slice(None)), corpus.questions
    return corpus.passage_mask(slice(None)), corpus.passages


def _spread(numbers: np.ndarray, count: int) -> np.ndarray:
    """`count` of the numbers, or all, at even distances."""
    if len(numbers) <= count:
        return numbers
    return numbers[np.arange(count) * len(numbers) // count]
