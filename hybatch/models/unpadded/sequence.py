"""The tokens of several texts in one row, text after text.

n texts, T tokens of the longest, N tokens of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from hybatch.models.unpadded.architectures import Architecture


@dataclass(frozen=True)
class TokenSequence:
    """Texts without padding between them.

    Attributes:
        lengths: tokens of each text, at least 1.
        places_N: int64, where each token stands in the flattened [n, T], on the device of the tokens.
        starts: int32 [n + 1], where each text begins, and N; on the same device.
        longest: T.
    """

    lengths: tuple[int, ...]
    places_N: Tensor
    starts: Tensor
    longest: int

    @classmethod
    def of_mask(cls, mask_nT: Tensor, device: torch.device) -> TokenSequence:
        """The sequence of what a mask keeps; a mask on the CPU spares a GPU the wait for the lengths."""
        kept_nT = mask_nT.cpu().bool()
        lengths_n = kept_nT.sum(dim=1)
        places_N, starts = kept_nT.flatten().nonzero().squeeze(1), F.pad(lengths_n.cumsum(0), (1, 0)).int()
        if device.type != "cpu":
            places_N, starts = (tensor.pin_memory().to(device, non_blocking=True) for tensor in (places_N, starts))
        return cls(tuple(lengths_n.tolist()), places_N, starts, kept_nT.shape[1])

    @cached_property
    def kept(self) -> Tensor:
        """bool [n, T]: where a token stands; every layer asks for it."""
        kept_nT = self.places_N.new_zeros(len(self.lengths) * self.longest, dtype=torch.bool)
        kept_nT[self.places_N] = True
        return kept_nT.view(len(self.lengths), self.longest)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(texts, tokens of each) of neighbours of equal length; sorted texts make few."""
        return [(len(list(run)), length) for length, run in groupby(self.lengths)]

    def flat(self, padded_nT: Tensor) -> Tensor:
        """[n, T] -> [1, N]."""
        return padded_nT.flatten().index_select(0, self.places_N)[None]

    def positions(self, architecture: Architecture, ids_nT: Tensor, mask_nT: Tensor, padding_id: int | None) -> Tensor:
        """int64 [1, N]: the position of each token, as the architecture counts them in padded rows."""
        if architecture.positions == "from 0":
            counted_nT = mask_nT.to(ids_nT).cumsum(dim=1) - 1
        else:
            assert padding_id is not None
            is_token_nT = ids_nT.ne(padding_id).to(ids_nT)
            counted_nT = is_token_nT.cumsum(dim=1) * is_token_nT + padding_id
        return self.flat(counted_nT)


def backbone_inputs(
    sequence: TokenSequence, architecture: Architecture, features: Mapping[str, Tensor], padding_id: int | None
) -> dict[str, Tensor]:
    """What the backbone takes besides token embeddings, each [1, N]: positions, and token types where it has them."""
    ids_nT = features["input_ids"]
    mask_nT = features["attention_mask"].to(ids_nT.device)
    positions = sequence.positions(architecture, ids_nT, mask_nT, padding_id)
    types = {name: sequence.flat(features[name]) for name in ("token_type_ids",) if name in features}
    return {"position_ids": positions, **types}
