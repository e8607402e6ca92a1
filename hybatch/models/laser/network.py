"""The network of LASER (arXiv 1812.10464, section 3): token embeddings and a stack of bidirectional LSTM layers.

B batch rows, T tokens, E token embedding width, H width of the hidden states: both directions side by side.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.modeling_outputs import BaseModelOutput

from hybatch.errors import UserError


class LaserNetwork(nn.Module):
    """Token ids to hidden states; its parameters are called as in the published state dict.

    The sentence's vector is the maximum over its tokens, which is the pooling's work. LASER-2 has 5 layers, E = 320,
    512 units in each direction, hence H = 1024.

    Attributes:
        config: `model_type` and `hidden_size` (H), where transformers' backbones have them.
    """

    def __init__(
        self,
        *,
        num_embeddings: int,
        padding_idx: int,
        embed_dim: int = 320,
        hidden_size: int = 512,
        num_layers: int = 1,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(num_embeddings, embed_dim, padding_idx=padding_idx)
        self.lstm = nn.LSTM(embed_dim, hidden_size, num_layers, bidirectional=bidirectional, batch_first=True)
        self.config = SimpleNamespace(model_type="laser", hidden_size=hidden_size * (2 if bidirectional else 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, return_dict: bool = True) -> BaseModelOutput:
        """Hidden states float32 [B, T, H] of ids and mask, both int64 [B, T] and padded on the right.

        The rows run sorted by length and without their padding, so that the backward direction starts at each row's
        last token. What stands at padded positions is zero. The output is an object whatever `return_dict` says, which
        stands here because transformers' backbones take it.
        """
        # Packing reads the lengths on the host, wherever the rest lives.
        lengths_B = attention_mask.sum(dim=1).cpu()
        packed = pack_padded_sequence(self.embed_tokens(input_ids), lengths_B, batch_first=True, enforce_sorted=False)
        hidden_BTH, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=input_ids.shape[1])
        return BaseModelOutput(last_hidden_state=hidden_BTH)

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        """Refuse: neither transformers nor sentence-transformers has a layout that could hold these weights.

        Raises:
            UserError: always.
        """
        raise UserError(f"{folder}: LASER cannot be saved as a model of transformers; copy its published files")
