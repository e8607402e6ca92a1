"""Hypothesis without deadlines: a shared machine may pause any example for longer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("sampling", settings(deadline=None, max_examples=50))


@pytest.fixture(autouse=True, scope="package")
def _no_deadline() -> Iterator[None]:
    before = settings.get_current_profile_name()
    settings.load_profile("sampling")
    yield
    settings.load_profile(before)
