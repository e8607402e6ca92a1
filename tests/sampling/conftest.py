"""What all tests of sampling share: hundreds of small caches, written without waiting for the disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

import hybatch.atomic

settings.register_profile("sampling", settings(deadline=None, max_examples=50))


@pytest.fixture(autouse=True, scope="package")
def _quick() -> Iterator[None]:
    """No deadlines, since a busy machine may pause any example, and no syncing: no test here cuts the power."""
    profile = settings.get_current_profile_name()
    settings.load_profile("sampling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybatch.atomic, "_sync", lambda path: None)
        yield
    settings.load_profile(profile)
