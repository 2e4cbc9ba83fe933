"""The bench that the machine's tests share."""

from collections.abc import Iterator

import pytest

from tests.unit.vbms.programs import Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()
