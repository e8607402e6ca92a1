"""The options of `model.lora`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hybatch.errors import UserError
from hybatch.options import check_options, limits


@dataclass(kw_only=True)
class LoraConfig:
    """A trained update of low rank beside each of a frozen backbone's linear layers: W x + alpha / rank B A x.

    Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
    """

    rank: int = field(default=16, metadata=limits(ge=1, le=100_000))
    """Rank of B A, of every layer."""
    alpha: float = field(default=32.0, metadata=limits(gt=0, le=1_000_000))
    """The update is scaled by alpha / rank."""
    dropout: float = field(default=0.0, metadata=limits(ge=0, lt=1))
    """Probability of the dropout before A, which the frozen layer beside it does not see."""
    targets: Literal["auto"] | list[str] = "auto"
    """Linear layers that get an update: auto, every one in the backbone that a vector depends on (projections of
    attention and feed-forward blocks); or names, `query`, `attention.output.dense`, each of which stands for all layers
    whose name it is or ends."""

    def __post_init__(self) -> None:
        check_options(self, "model.lora")
        if not self.targets:
            raise UserError("model.lora.targets is an empty list: name linear layers, or leave it out for all of them")

    @property
    def scale(self) -> float:
        """What the product B A is multiplied with."""
        return self.alpha / self.rank
