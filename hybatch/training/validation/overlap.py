"""Texts that training and validation share, which make a validation look better than it is."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from hybatch.atomic import atomic_file
from hybatch.corpus import ParallelCorpus
from hybatch.training.texts import all_texts


@dataclass(frozen=True)
class SharedTexts:
    """How many distinct texts of a validation corpus stand, letter for letter, in a training corpus.

    A text counts whether it is a question or a passage, and in whichever language it stands on either side.
    """

    texts: int
    shared: int


def count_shared_texts(training: ParallelCorpus, validation: ParallelCorpus, *, progress: bool = True) -> SharedTexts:
    """Read both corpora once, remembering only the validation texts; the counts are kept beside the index."""
    kept = Path(validation.directory) / "shared-texts" / f"{training.fingerprint}.json"
    # What cannot be read is counted again.
    with contextlib.suppress(OSError, ValueError, TypeError):
        return SharedTexts(**json.loads(kept.read_text(encoding="utf-8")))
    # Comparing the texts themselves costs no more than comparing digests of them, and cannot be wrong.
    texts = set(all_texts([validation]))
    unseen = set(texts)
    size = 2 * training.num_examples * len(training.languages)
    bar = tqdm(
        all_texts([training]),
        total=size,
        desc=f"texts shared by {training.name} and {validation.name}",
        disable=not progress,
        leave=False,
    )
    for text in bar:
        unseen.discard(text)
    counts = SharedTexts(len(texts), len(texts) - len(unseen))
    with atomic_file(kept) as file:
        json.dump(asdict(counts), file)
    return counts
