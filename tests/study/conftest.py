"""A study that is done, for the tests that look at what it leaves."""

from __future__ import annotations

import pytest

from tests.study.tiny_study import TinyStudy, write_study


@pytest.fixture(scope="session")
def planned_study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """Nothing of it is done; not to be run in its own folder."""
    return write_study(tmp_path_factory.mktemp("planned-study"))


@pytest.fixture(scope="session")
def finished_study(planned_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """Both runs are recorded; not to be written into."""
    study = planned_study.inputs_in(tmp_path_factory.mktemp("studies") / "finished")
    exit_code, output = study.run()
    assert exit_code == 0, output
    return study
