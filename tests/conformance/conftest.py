"""A server on localhost with one TUF repository, and the clients that follow it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tufrepo import Client, Ours, Served, TufRepository, Witness, serve, use


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serve(TufRepository()) as served:
        yield served


@pytest.fixture
def repo(server: Served) -> TufRepository:
    return use(server, TufRepository())


@pytest.fixture(params=[Ours, Witness], ids=["ours", "python-tuf"])
def client(request: pytest.FixtureRequest, server: Served, tmp_path: Path) -> Client:
    return request.param(server, tmp_path)  # type: ignore[no-any-return]


@pytest.fixture
def ours(server: Served, tmp_path: Path) -> Ours:
    return Ours(server, tmp_path)
