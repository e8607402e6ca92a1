"""Paths as people write them in configurations: with `~` and environment variables."""

from __future__ import annotations

import os
import re

from hybatch.errors import UserError


def expand_path(path: str, option: str) -> str:
    """`path` with `~`, `$NAME` and `${NAME}` expanded, without a slash at the end.

    Args:
        option: what a message calls the place where the path was given.

    Raises:
        UserError: a variable is not set.
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{\w+\})", expanded):
        raise UserError(f"{option} {path!r}: the environment variable {unset.group()} is not set")
    return expanded.rstrip("/") or expanded
