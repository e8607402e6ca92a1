"""SHIFT: passages of every language brought to where those of one language are.

R roles, L languages, H embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hybatch.errors import UserError
from hybatch.evaluation.debias.method import LanguageMeans, Method, MethodOptions
from hybatch.models import LanguageOffsets
from hybatch.models.language_offsets import ROLES

_DEFAULT_PIVOT = "en"


def _settle(languages: Sequence[str], options: MethodOptions) -> MethodOptions:
    pivot = options.pivot or _DEFAULT_PIVOT
    if pivot not in languages:
        given = f"--pivot {options.pivot}" if options.pivot else f"--pivot (by default {_DEFAULT_PIVOT})"
        raise UserError(f"{given}: not among the languages that are fitted: {' '.join(languages)}; name one of them")
    return options._replace(pivot=pivot)


def _fit(means: LanguageMeans, options: MethodOptions) -> LanguageOffsets:
    """The offset of a passage in language x is m(pivot) - m(x), m the mean of the passages; queries stay as they are.

    After "Semantic Harmonization via Index-side Feature Transformation" (arXiv 2606.18801), of which the abstract was
    read: from a document's embedding the relative language vector of its language against a source language is
    subtracted when it is indexed, estimated from pairs of translations. Over pairs the mean of the differences is the
    difference of the means, which is taken here from corpora that are not parallel, too. The vectors are scaled to unit
    length afterwards; whether the paper does so is not known.
    """
    assert options.pivot is not None
    passages_LH = means.of["passage"]
    moved_LH = passages_LH[means.languages.index(options.pivot)] - passages_LH
    offsets = [moved_LH if role == "passage" else np.zeros_like(moved_LH) for role in ROLES]
    return LanguageOffsets(means.languages, torch.from_numpy(np.stack(offsets)))


SHIFT = Method(
    name="shift",
    summary="passages are moved by the difference of their language's mean from that of --pivot",
    options=("pivot",),
    by_language=True,
    settle=_settle,
    fit=_fit,
)
