"""How far apart two distributions over the same candidates are: a table; a new one is a function and a line here.

A divergence is a sum over the candidates, and is given as what one candidate adds to it: a function of the logarithms
of the two probabilities, element by element, that torch can differentiate and that is 0 where they are equal. That is
all that `alignment` needs to sum it up, and to find its gradient, in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Divergence = Callable[[Tensor, Tensor], Tensor]
"""(log p, log q) of any equal shape, finite -> contributions of that shape."""


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The mean of the Kullback-Leibler divergences of both from their mean, in nats: between 0 and log 2 (Lin 1991)."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)) / 2


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The mean of KL(p, q) and KL(q, p), in nats: of a query and its translation neither is the one to follow."""
    return (log_p.exp() - log_q.exp()) * (log_p - log_q) / 2


def squared_error(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The squared difference of the probabilities; the sum over the candidates is between 0 and 2."""
    return (log_p.exp() - log_q.exp()).square()


DIVERGENCES: dict[str, Divergence] = {
    "jsd": jensen_shannon,
    "kl": kullback_leibler,
    "mse": squared_error,
}
"""By what `loss.alignment.kind` calls them."""
