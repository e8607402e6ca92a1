"""Centring: from each vector the mean of its language and role, then unit length again.

L languages, H embedding width.
"""

from __future__ import annotations

import numpy as np
import torch

from hybatch.evaluation.debias.method import LanguageMeans, Method, MethodOptions
from hybatch.models import LanguageOffsets
from hybatch.models.language_offsets import ROLES


def _fit(means: LanguageMeans, options: MethodOptions) -> LanguageOffsets:
    """The offset of language x and role r is -m(x, r), m the mean.

    With `put_back` it is m(r) - m(x, r), m(r) the unweighted mean of the means of all languages in that role: then
    languages come together where they were in the mean, and the vectors keep what they all have in common.
    """
    offsets = [-means.of[role] for role in ROLES]
    if options.put_back:
        offsets = [offsets_LH - offsets_LH.mean(axis=0) for offsets_LH in offsets]
    return LanguageOffsets(means.languages, torch.from_numpy(np.stack(offsets)))


CENTRE = Method(
    name="centre",
    summary="the mean of each language and role is taken from its vectors",
    options=("put_back",),
    by_language=True,
    settle=lambda languages, options: options._replace(put_back=bool(options.put_back)),
    fit=_fit,
)
