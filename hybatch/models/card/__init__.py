"""The model card, README.md of an encoder's folder: where the encoder comes from, and how it is used."""

from hybatch.models.card.base import CARD, BaseModel, base_model
from hybatch.models.card.card import Origin, model_card, saved_as_it_is
from hybatch.models.card.versions import versions_used

__all__ = ["CARD", "BaseModel", "Origin", "base_model", "model_card", "saved_as_it_is", "versions_used"]
