"""Language-identity removal: the directions in which the languages' means differ are projected out of every vector.

L languages, H embedding width, k directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from hybatch.errors import UserError
from hybatch.evaluation.debias.method import LanguageMeans, Method, MethodOptions
from hybatch.models.head import Dense

# Singular values below this share of the greatest are rounding: the means are those of fp32 vectors.
_NO_DIRECTION = 1e-5


def language_directions(means: LanguageMeans) -> np.ndarray:
    """What tells the languages' means apart, the direction that tells most first: float64 [k, H], orthonormal.

    In each role the unweighted mean over the languages is taken out, then a language's two roles are averaged: its
    place beside the others, whichever the role. The directions are the right singular vectors of these L rows, at most
    L - 1 of them.
    """
    places_LH = np.mean([mean_LH - mean_LH.mean(axis=0) for mean_LH in means.of.values()], axis=0)
    _, values, directions_LH = np.linalg.svd(places_LH, full_matrices=False)
    return directions_LH[values > _NO_DIRECTION * max(values.max(), 1e-3)]


def _settle(languages: Sequence[str], options: MethodOptions) -> MethodOptions:
    most = len(languages) - 1
    if options.directions is not None and options.directions > most:
        raise UserError(
            f"--directions {options.directions}: the means of {len(languages)} languages differ in {most} "
            f"direction{'s' * (most > 1)} at most; give {most} or fewer, or more languages"
        )
    return options._replace(directions=options.directions or most)


def _fit(means: LanguageMeans, options: MethodOptions) -> Dense:
    """I - V'V, V the leading k directions, as a layer without bias or activation; unit length comes after it.

    After "A Simple and Effective Method To Eliminate the Self Language Bias in Multilingual Representations" (arXiv
    2109.04727), which projects out leading principal components of the vectors too, and takes them from the texts. Here
    they are those of the languages' means: one projection serves all languages, so that the language of a text need not
    be known.
    """
    assert options.directions is not None
    directions_kH = language_directions(means)
    if len(directions_kH) < options.directions:
        raise UserError(
            f"--directions {options.directions}: the means of {' '.join(means.languages)} differ in only "
            f"{len(directions_kH)}; give no more, or other texts"
        )
    if options.directions >= directions_kH.shape[1]:
        raise UserError(
            f"--directions {options.directions}: leaves nothing of vectors of {directions_kH.shape[1]} values"
        )
    directions_kH = directions_kH[: options.directions]
    projection_HH = np.eye(directions_kH.shape[1]) - directions_kH.T @ directions_kH
    layer = Dense(*projection_HH.shape, bias=False, activation=nn.Identity)
    layer.linear.weight = nn.Parameter(torch.from_numpy(projection_HH).float())
    return layer


LIR = Method(
    name="lir",
    summary="the leading --directions in which the languages' means differ are projected out of all vectors",
    options=("directions",),
    by_language=False,
    settle=_settle,
    fit=_fit,
)
