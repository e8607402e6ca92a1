"""The optional layer between the pooled vector and the normalised embedding.

B batch rows, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dense(nn.Module):
    """One linear layer and an activation, computed in fp32 whatever the backbone runs in.

    The parameters are called `linear.weight` and `linear.bias`, as sentence-transformers calls them in its files.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, activation: type[nn.Module] = nn.Tanh
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = activation()

    def forward(self, pooled_BH: Tensor) -> Tensor:
        """[B, in_features] to [B, out_features] float32."""
        with torch.autocast(pooled_BH.device.type, enabled=False):
            bias = None if self.linear.bias is None else self.linear.bias.float()
            return self.activation(F.linear(pooled_BH.float(), self.linear.weight.float(), bias))
