"""R@2kt and R@5kt of XOR-Retrieve: is an answer within the first 2,000 or 5,000 tokens retrieved?

Defined in "XOR QA" (arXiv 2010.11856, section 4.1) and by the publisher's script, which takes its tokens from NLTK's
`word_tokenize`: sentences by the trained model Punkt, and in each the rules of NLTK's word tokenizer. Those rules come
with NLTK, Punkt's data do not; where they are missing a rule splits the sentences. All that hangs on it is whether a
full stop is a token of its own, after a word that ends a sentence, or part of an abbreviation, so that counts may
differ by a token here and there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, islice

import numpy as np

from hybatch.errors import UserError
from hybatch.evaluation.collection.judgements import QuerySet
from hybatch.evaluation.collection.passages import Passages

Tokenize = Callable[[str], list[str]]

# The space after a sign that ends sentences, a closing quote or bracket behind it or not, and before anything that is
# no small letter and no digit; but not after an initial, as in "J. Smith".
_BETWEEN_SENTENCES = re.compile(r"""(?<!\b[A-Z]\.)(?:(?<=[.?!])|(?<=[.?!]["')]))\s+(?=["'(]*[^\W\d_a-z])""")


def word_tokenizer() -> tuple[str, Tokenize]:
    """(what results call it, the tokens of a text): the publisher's where Punkt's data are there.

    Raises:
        UserError: NLTK is not installed.
    """
    try:
        import nltk
    except ImportError as error:
        raise UserError(
            "--task xor-retrieve: counts tokens with NLTK, which is not installed; pip install 'hybatch[xor]'"
        ) from error
    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError:
        words = nltk.tokenize.NLTKWordTokenizer().tokenize
        return "NLTKWordTokenizer", lambda text: [word for one in _BETWEEN_SENTENCES.split(text) for word in words(one)]
    return "word_tokenize", nltk.word_tokenize


def per_query(metrics: Sequence[str], one: QuerySet, passages: Passages, found_QK: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [Q]: 1 where an answer is found, for metrics named such as "recall@2kt".

    NaN for queries whose only answers are "yes" or "no": they are left out, as the publisher's script does.
    """
    assert one.answers is not None
    spans = [[answer for answer in answers if answer not in ("yes", "no")] for answers in one.answers]
    asked = [query for query, answers in enumerate(spans) if answers]
    named = passages.read_some(found_QK[asked].ravel().tolist())
    _, tokenize = word_tokenizer()
    tokens_of = cache(lambda number: tokenize(named[number].text))
    limits = {metric: 1000 * int(metric.removeprefix("recall@").removesuffix("kt")) for metric in metrics}
    values = {metric: np.full(len(spans), np.nan) for metric in metrics}
    for query in asked:
        ranked = (tokens_of(number) for number in found_QK[query].tolist() if number >= 0)
        tokens = list(islice(chain.from_iterable(ranked), max(limits.values())))
        for metric, limit in limits.items():
            values[metric][query] = holds_answer(tokens[:limit], spans[query])
    return values


def holds_answer(tokens: Iterable[str], answers: Iterable[str]) -> bool:
    """Whether the tokens, joined by a space, hold any answer as it stands; blank answers are passed over.

    As in the publisher's script the answers themselves are not cut into tokens: one with signs that tokens are cut at,
    such as "Kiel (Germany)" or "Ann's", is not found.
    """
    joined = " ".join(tokens)
    return any(answer in joined for answer in answers if answer.strip())
