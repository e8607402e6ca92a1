"""Find a published encoder by what it was called."""

from __future__ import annotations

import difflib

from hybatch.errors import UserError
from hybatch.models.named.model import NamedModel
from hybatch.models.named.table import NAMED_MODELS, NEEDS_CODE


def named_model(path_or_hub_id: str) -> NamedModel | None:
    """The published model that a name, a hub id or the name of a folder speaks of; None for any other.

    A folder is known by its own name, the model's short one or the last part of its hub id, so that a copy on a machine
    without a connection behaves as the original; case does not matter.
    """
    given = path_or_hub_id.rstrip("/").lower()
    own_name = given.rpartition("/")[2]
    for model in NAMED_MODELS:
        if given == model.hub_id.lower() or own_name in (model.name, model.hub_id.lower().rpartition("/")[2]):
            return model
    return None


def hub_id(path_or_hub_id: str) -> str:
    """The hub id behind a short name; anything else comes back as it is."""
    return next((model.hub_id for model in NAMED_MODELS if model.name == path_or_hub_id.lower()), path_or_hub_id)


def near_names(path_or_hub_id: str) -> str:
    """What to add to a message on a model that nobody knows: the names that look like it, or all of them."""
    if path_or_hub_id.lower().startswith("laser"):
        return "; LASER-2 is not on the hub: give the folder that holds laser2.pt, laser2.spm and laser2.cvocab"
    names = [model.name for model in NAMED_MODELS]
    given = path_or_hub_id.lower()
    near = difflib.get_close_matches(given, names, n=4, cutoff=0.6)
    near += [name for name in names if name not in near and (name.startswith(given) or given.startswith(name))]
    return f"; near names: {', '.join(near)}" if near else f"; known by name: {', '.join(names)}"


def refuse_unreadable(path_or_hub_id: str) -> None:
    """Refuse, before anything is fetched, a published encoder that needs code of its own and has no other copy.

    Raises:
        UserError: it is one; the message says what to do.
    """
    given = path_or_hub_id.lower()
    for model in NEEDS_CODE:
        address = model.hub_id.lower()
        if given in (address, address.rpartition("/")[2]) and named_model(given) is None:
            raise UserError(
                f"{path_or_hub_id}: needs code that comes with the model, and hybatch runs no code of a model: "
                + model.instead
            )


def without_its_code(repository: str) -> str | None:
    """What to do about a model whose code lies in this repository of the hub; None where nothing is known."""
    return next((model.instead for model in NEEDS_CODE if model.code == repository), None)
