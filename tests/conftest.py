"""For all property tests: no example is judged by the clock. On CI, Hypothesis repeats the same ones."""

from pathlib import Path

import pytest
from _pytest.junitxml import xml_key
from hypothesis import settings

from cellward import bootstrap

settings.register_profile("cellward", settings.default, deadline=None)
settings.load_profile("cellward")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Into the JUnit XML: results of another revision are no evidence of this one. By the process that
    writes it: workers have none, which is why record_testsuite_property would say nothing."""
    results = session.config.stash.get(xml_key, None)
    if results is not None:
        results.add_global_property("revision", bootstrap.checkout(Path(__file__).parents[1]).revision())


@pytest.fixture(scope="session")
def made_tpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded TPM that was never started: for tests.support.packtpm.copy."""
    from tests.support.packtpm import make

    return make(tmp_path_factory.mktemp("made") / "tpm")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are often of keys made for this run: workers would not agree on what the tests are called."""
    return argname if isinstance(val, bytes) else None
