"""Published encoders by short name: where they are, and how each of them wants its texts."""

from hybatch.models.named.lookup import hub_id, named_model, near_names, refuse_unreadable, without_its_code
from hybatch.models.named.model import NamedModel
from hybatch.models.named.table import LABSE, NAMED_MODELS, NEEDS_CODE

__all__ = [
    "LABSE",
    "NAMED_MODELS",
    "NEEDS_CODE",
    "NamedModel",
    "hub_id",
    "named_model",
    "near_names",
    "refuse_unreadable",
    "without_its_code",
]
