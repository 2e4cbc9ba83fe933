"""For all property tests: no example is judged by the clock. On CI, Hypothesis repeats the same ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from cellward import bootstrap

settings.register_profile("cellward", settings.default, deadline=None)
settings.load_profile("cellward")


@pytest.fixture(scope="session", autouse=True)
def revision_of_the_run(record_testsuite_property: Callable[[str, object], None]) -> None:
    """Into the JUnit XML: results of another revision are no evidence of this one."""
    record_testsuite_property("revision", bootstrap.checkout(Path(__file__).parents[1]).revision())


@pytest.fixture(scope="session")
def made_tpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded TPM that was never started: for tests.support.packtpm.copy."""
    from tests.support.packtpm import make

    return make(tmp_path_factory.mktemp("made") / "tpm")
