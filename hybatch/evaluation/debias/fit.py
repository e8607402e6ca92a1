"""From an encoder and texts to the same encoder without what tells its languages apart.

N texts, H embedding width.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from hybatch.corpus.index.keys import keys_of
from hybatch.evaluation.debias.method import LanguageMeans, Method, MethodOptions
from hybatch.evaluation.debias.texts import Texts
from hybatch.evaluation.encoding.encode import encode_texts
from hybatch.models import Encoder, LanguageOffsets
from hybatch.models.folder.debiased import Debiased


def language_means(encoder: Encoder, texts: Texts, *, batch_size: int, progress: bool, model: str) -> LanguageMeans:
    """Means of the vectors of each language and role, in float64; collective under torch.distributed.

    Raises:
        UserError: a text leaves nothing to encode, or its embedding is not finite.
    """
    means = {}
    for role, of_language in texts.items():
        encoder.refuse_tokenless(chain.from_iterable(of_language.values()), role)
    for role, of_language in texts.items():
        listed = [text for language in sorted(of_language) for text in of_language[language]]
        rows_NH = encode_texts(encoder, listed, role, batch_size=batch_size, progress=progress, model=model)
        ends = np.cumsum([len(of_language[language]) for language in sorted(of_language)])
        parts = np.split(rows_NH.astype(np.float64), ends[:-1])
        means[role] = np.stack([part_NH.mean(axis=0) for part_NH in parts])
    return LanguageMeans(tuple(sorted(texts["query"])), means)


def debiased_encoder(
    encoder: Encoder, means: LanguageMeans, method: Method, options: MethodOptions, debiased: Debiased
) -> Encoder:
    """The encoder with the method's layer or offsets behind it; its weights are shared.

    Raises:
        UserError: the means do not give what was asked for.
    """
    removal = method.fit(means, options)
    head: list[Any] = list(encoder.head)
    offsets, config = None, encoder.config
    if isinstance(removal, LanguageOffsets):
        offsets = removal
    else:
        head.append(removal)
        config = replace(config, head="dense" if config.head == "none" else config.head)
    without = Encoder(config, encoder.backbone, encoder.tokenizer, head, offsets, debiased)
    if offsets is not None:  # a layer mixes the dimensions
        without.dimensions = encoder.dimensions
    return without.to(next(encoder.parameters()).device).eval()


def key_table(texts: Texts) -> np.ndarray:
    """Keys of all distinct texts: uint64 [n, 2]."""
    return keys_of(sorted({text for role in texts.values() for listed in role.values() for text in listed}))


def distances(means: LanguageMeans) -> dict[str, dict[str, float]]:
    """language -> role -> length of the difference between its mean and the mean of all languages' means."""
    apart: dict[Any, np.ndarray] = {
        role: np.linalg.norm(mean_LH - mean_LH.mean(axis=0), axis=1) for role, mean_LH in means.of.items()
    }
    return {language: {role: float(apart[role][row]) for role in apart} for row, language in enumerate(means.languages)}
