"""TUF 1.0.34, section 5, over HTTP: every scenario with our client and with python-tuf's as a witness.

Where the two may differ (what is asked again, what is refused that TUF only leaves alone), a test says
`ours` instead of `client`. Requests and what lies in the folder afterwards are looked at, not only the end.
Here: the order of steps and roots (5.2, 5.3). Further: test_tuf_keys, _freshness, _delegations, _targets.
"""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from tests.support.tufrepo import (
    AGAIN,
    CLIENT,
    FIRST,
    LATER,
    NOW,
    TOP,
    Client,
    Ours,
    Served,
    TufRepository,
    signer,
    started,
    use,
)

DAY = timedelta(days=1)


# --- the whole way, and nothing more than needed ---------------------------------------------------


def test_the_first_refresh_asks_in_order_and_nothing_else(repo: TufRepository, client: Client) -> None:
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.asked() == FIRST
    assert client.versions() == [1, 1, 1, 1]
    for role in ("root", *TOP):
        held = (client.metadata / f"{role}.json").read_bytes()
        assert held == repo.files[f"metadata/{'' if role == 'timestamp' else '1.'}{role}.json"]


def test_what_is_held_is_not_asked_for_again(repo: TufRepository, client: Client) -> None:
    started(client)
    assert client.refresh()
    assert client.asked() == AGAIN


def test_only_what_changed_is_asked_for(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.next_snapshot()
    assert client.refresh()
    assert client.asked() == [*AGAIN, "2.snapshot.json"]
    repo.next()
    assert client.refresh()
    assert client.asked() == [*AGAIN, "3.snapshot.json", "2.targets.json"]
    assert client.versions() == [1, 3, 3, 2]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("consistent", [True, False])
def test_consistent_snapshots_or_not(server: Served, client: Client, consistent: bool, hashed: bool) -> None:
    repo = use(server, TufRepository(consistent=consistent, hashed=hashed))
    repo.add_target("a/b", b"data", prefixed=consistent)
    repo.publish()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.download("a/b")
    one = "1." if consistent else ""
    digest = repo.targets.targets["a/b"].hashes["sha256"]
    stored = f"targets/a/{digest}.b" if consistent else "targets/a/b"
    assert client.asked() == [*AGAIN, f"{one}snapshot.json", f"{one}targets.json", stored]
    assert (client.downloads / "a%2Fb").read_bytes() == b"data"


def test_consistent_snapshots_begin_with_a_new_root(server: Served, client: Client) -> None:
    repo = use(server, TufRepository(consistent=False))
    started(client)
    repo.root.consistent_snapshot = True
    repo.new_root()
    repo.next()
    assert client.refresh()
    assert client.asked() == [
        "2.root.json",
        "3.root.json",
        "timestamp.json",
        "2.snapshot.json",
        "2.targets.json",
    ]


@pytest.mark.parametrize("role", TOP)
def test_a_damaged_file_is_fetched_again(repo: TufRepository, client: Client, role: str) -> None:
    started(client)
    (client.metadata / f"{role}.json").write_bytes(b"{")
    assert client.refresh()
    assert client.versions() == [1, 1, 1, 1]


def test_without_a_root_nothing_is_asked(repo: TufRepository, ours: Ours) -> None:
    assert not ours.refresh()
    assert ours.asked() == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_next_root_that_is_not_there(repo: TufRepository, client: Client, status: int) -> None:
    client.served.answers["metadata/2.root.json"] = status
    started(client)


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_server_that_fails(repo: TufRepository, ours: Ours, name: str) -> None:
    ours.served.answers[f"metadata/{name}"] = 500
    assert ours.init(repo.files["metadata/1.root.json"])
    assert not ours.refresh()
    assert ours.asked() == FIRST[: FIRST.index(name) + 1]
    ours.served.answers.clear()
    assert ours.refresh()


# --- 5.2 and 5.3, root ---------------------------------------------------------------------------------


def test_a_chain_of_roots(repo: TufRepository, client: Client) -> None:
    for _ in range(4):
        repo.rotate("root", f"root-{repo.root.version}")
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.asked() == [f"{n}.root.json" for n in range(2, 7)] + FIRST[1:]
    assert client.version("root") == 5


def test_a_gap_ends_the_chain(repo: TufRepository, client: Client) -> None:
    for _ in range(3):
        repo.new_root()
    del repo.files["metadata/3.root.json"]
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 2


def test_more_roots_than_a_vehicle_takes_in_a_cycle(repo: TufRepository, client: Client) -> None:
    for _ in range(40):
        repo.new_root()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 41


@pytest.mark.parametrize("signers", ["old", "new", "none"])
def test_a_root_is_signed_by_the_old_and_the_new_keys(
    repo: TufRepository, client: Client, signers: str
) -> None:
    started(client)
    repo.rotate("root", "heir")
    kept = {"old": [signer("root")], "new": [signer("heir")], "none": []}[signers]
    metadata = Metadata(repo.root)
    for key in kept:
        metadata.sign(key, append=True)
    repo.files["metadata/2.root.json"] = metadata.to_bytes()
    assert not client.refresh()
    assert client.asked() == ["2.root.json"]
    assert client.versions() == [1, 1, 1, 1]


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_of_another_version(repo: TufRepository, client: Client, version: int) -> None:
    started(client)
    repo.root.version = version
    repo.files["metadata/2.root.json"] = repo.sign("root", repo.root)
    assert not client.refresh()
    assert client.version("root") == 1


def test_a_root_that_nobody_signed_is_no_start(repo: TufRepository, client: Client) -> None:
    client.init(Metadata(repo.root).to_bytes())
    assert not client.refresh()
    assert client.asked() == []
    assert client.versions()[1:] == [0, 0, 0]


def test_an_expired_root_on_the_way_is_no_fault(repo: TufRepository, client: Client) -> None:
    repo.root.expires = NOW - DAY
    repo.new_root()
    repo.root.expires = LATER
    repo.new_root()
    assert client.init(repo.files["metadata/1.root.json"])
    assert client.refresh()
    assert client.version("root") == 3


def test_an_expired_root_at_the_end_is_kept_and_ends_the_cycle(repo: TufRepository, client: Client) -> None:
    started(client)
    repo.root.expires = NOW - DAY
    repo.new_root()
    repo.next()
    assert not client.refresh()
    assert client.versions() == [2, 1, 1, 1]
    repo.root.expires = LATER
    repo.new_root()
    assert client.refresh()
    assert client.versions() == [3, 2, 2, 2]


def test_after_an_expired_root_nothing_more_is_asked(repo: TufRepository, ours: Ours) -> None:
    """5.3.10. python-tuf asks for the timestamp first."""
    started(ours)
    repo.root.expires = NOW
    repo.new_root()
    assert not ours.refresh()
    assert ours.asked() == ["2.root.json", "3.root.json"]


# --- the executable ----------------------------------------------------------------------------------------


def execute(*words: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run([CLIENT, *words], capture_output=True, text=True, env=environment, check=False)


def test_the_command_line(repo: TufRepository, server: Served, tmp_path: Path) -> None:
    repo.add_target("a/b", b"data")
    repo.next()
    (tmp_path / "shipped").write_bytes(repo.files["metadata/1.root.json"])
    (tmp_path / "there").mkdir()
    common = ("--metadata-dir", str(tmp_path / "there"))
    urls = (*common, "--metadata-url", server.metadata_url)
    targets = ("--target-base-url", server.targets_url, "--target-dir", str(tmp_path / "out"))
    assert execute(*common, "init", str(tmp_path / "shipped")).returncode == 0
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["root.json"]
    done = execute(*urls, "--target-name", "a/b", *targets, "download")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "a%2Fb").read_bytes() == b"data"
    refused = execute(*urls, "--target-name", "c", *targets, "download")
    assert refused.returncode == 1
    assert refused.stderr.startswith("[target.missing]")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [(), ("refresh",), ("--metadata-dir", ".", "init"), ("--metadata-dir", "no", "refresh")]
)
def test_every_other_end_is_one(words: tuple[str, ...]) -> None:
    done = execute(*words)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
