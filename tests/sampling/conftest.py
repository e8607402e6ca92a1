"""What all tests of sampling share: hundreds of small caches, written without waiting for the disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import hybatch.atomic


@pytest.fixture(autouse=True, scope="package")
def _no_syncing() -> Iterator[None]:
    """No test here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybatch.atomic, "_sync", lambda path: None)
        yield
