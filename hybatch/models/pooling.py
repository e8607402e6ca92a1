"""From one vector per token to one vector per text.

B batch rows, T tokens, N tokens of all rows, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybatch.models.config import PoolingMode
from hybatch.models.unpadded import TokenSequence


def pool(hidden_BTH: Tensor, mask_BT: Tensor, mode: PoolingMode) -> Tensor:
    """Pool the hidden states of the tokens that the mask keeps.

    Padding may stand on either side. The mean is summed in fp32 whatever the encoder runs in, also under autocast. A
    row without any token gives zeros for the mean and the maximum, and its first or last position otherwise.

    Args:
        hidden_BTH: hidden states, any float dtype; finite at padded positions.
        mask_BT: 1 for tokens, 0 for padding, any integer or bool dtype.
        mode: `cls` the first token, `last` the last token, `mean` the mean over the tokens, `max` in each dimension
            the greatest value of any token.

    Returns:
        [B, H] float32.
    """
    rows = torch.arange(hidden_BTH.shape[0], device=hidden_BTH.device)
    kept_BT = mask_BT.to(torch.int32)
    if mode == "cls":
        return hidden_BTH[rows, kept_BT.argmax(dim=1)].float()
    if mode == "last":
        return hidden_BTH[rows, hidden_BTH.shape[1] - 1 - kept_BT.flip(1).argmax(dim=1)].float()
    if mode == "max":
        padding_BT1 = mask_BT.eq(0).unsqueeze(-1)
        greatest_BH = hidden_BTH.float().masked_fill(padding_BT1, -torch.inf).amax(dim=1)
        return greatest_BH.masked_fill(padding_BT1.all(dim=1), 0.0)
    weights_BT = mask_BT.float() / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    with torch.autocast(hidden_BTH.device.type, enabled=False):
        return torch.einsum("bt,bth->bh", weights_BT, hidden_BTH.float())


def pool_sequence(hidden_1NH: Tensor, sequence: TokenSequence, mode: PoolingMode) -> Tensor:
    """Pool the hidden states of texts without padding, as `pool` does with padding.

    Returns:
        [B, H] float32, of the texts in their order.
    """
    pooled = []
    runs = sequence.runs
    for tokens, (texts, length) in zip(hidden_1NH[0].split([n * t for n, t in runs]), runs, strict=True):
        run_nTH = tokens.float().unflatten(0, (texts, length))
        match mode:
            case "cls":
                pooled.append(run_nTH[:, 0])
            case "last":
                pooled.append(run_nTH[:, -1])
            case "max":
                pooled.append(run_nTH.amax(dim=1))
            case "mean":
                pooled.append(run_nTH.mean(dim=1))
    return torch.cat(pooled)
