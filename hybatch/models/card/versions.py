"""Which software made an encoder."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

from hybatch.version import __version__

_LIBRARIES = ("torch", "transformers")


def versions_used() -> str:
    """hybatch with its commit where that is known, and the libraries that decide what an encoder computes."""
    known = commit()
    own = f"hybatch {__version__}" + (f" ({known})" if known else "")
    return ", ".join([own, *(f"{name} {version(name)}" for name in _LIBRARIES)])


def commit() -> str | None:
    """The commit that hybatch was installed from, where pip fetched it from a repository (PEP 610)."""
    try:
        text = distribution("hybatch").read_text("direct_url.json")
        origin: Any = json.loads(text) if text else {}
        return origin["vcs_info"]["commit_id"]
    except (PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
