"""What only a look at a backbone tells: how many positions it has, which of its parameters nothing depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hybatch.errors import UserError
from hybatch.models.backbone.building import BUILD_ERRORS, first_line, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POSITION_TABLES = ("position_embeddings", "embed_positions", "wpe")


def max_positions(backbone: nn.Module) -> int | None:
    """Longest input in tokens that the backbone's table of positions allows; None where it has no such table.

    XLM-R's table starts two rows late, so that 514 rows make 512 positions.
    """
    limits = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITION_TABLES:
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - max(start, getattr(module, "offset", 0)))
    return min(limits, default=None)


def unused_parameters(backbone: PreTrainedModel) -> set[str]:
    """Names of the parameters that the hidden states do not depend on: a pooler, a mask embedding.

    Found on the autograd graph of one short input; nothing is differentiated.

    Raises:
        UserError: the backbone cannot encode a text.
    """
    ids = torch.full((1, 3), min(5, backbone.config.vocab_size - 1))
    with quiet_transformers(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            hidden: Tensor = backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        except (*BUILD_ERRORS, UnboundLocalError, IndexError) as error:
            # Older releases compile some functions, which then take no tensors without values.
            mend = (
                "update transformers"
                if "TorchScript" in str(error)
                else "choose another architecture, or other settings"
            )
            raise UserError(
                f"the backbone {backbone.config.model_type!r} cannot encode a text: {first_line(error)}; {mend}"
            ) from error
    used: set[int] = set()
    seen: set[Any] = set()
    stack = [hidden.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            used.add(id(node.variable))
        stack.extend(following for following, _ in node.next_functions)
    return {name for name, parameter in backbone.named_parameters() if id(parameter) not in used}
