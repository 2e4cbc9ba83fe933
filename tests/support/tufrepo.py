"""One plain TUF repository, made with python-tuf, and the two clients that follow it over HTTP.

`Ours` is tests/conformance/tuf-client in this process; `Witness` is python-tuf's own client.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from threading import Thread
from types import ModuleType
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient import Updater

from cellward.core.errors import CellwardError

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(days=30)
FIRST = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
AGAIN = ["2.root.json", "timestamp.json"]
TOP = ("timestamp", "snapshot", "targets")
CLIENT = Path(__file__).parents[1] / "conformance" / "tuf-client"
MAKE = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsa": lambda: CryptoSigner.generate_rsa(scheme="rsassa-pss-sha256"),
}


def signer(name: str, kind: str = "ed25519") -> CryptoSigner:
    """The key called `name`, made once for all tests of a run."""
    return _signer(name, kind)


@cache
def _signer(name: str, kind: str) -> CryptoSigner:
    return MAKE[kind]()


class TufRepository:
    """Its current metadata as objects to change, and `files`: what is served, by path."""

    def __init__(self, kind: str = "ed25519", *, consistent: bool = True, hashed: bool = False) -> None:
        self.hashed = hashed
        self.root = Root(expires=LATER, consistent_snapshot=consistent)
        self.timestamp, self.snapshot = Timestamp(expires=LATER), Snapshot(expires=LATER)
        self.targets = Targets(expires=LATER)
        self.delegated: dict[str, Targets] = {}
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.files: dict[str, bytes] = {}
        for role in ("root", "timestamp", "snapshot", "targets"):
            self.add_key(role, signer(role, kind))
        self.publish_root()
        self.publish()

    # --- keys

    def add_key(self, role: str, key: CryptoSigner) -> None:
        self.root.add_key(key.public_key, role)
        self.signers.setdefault(role, []).append(key)

    def rotate(self, role: str, name: str) -> None:
        """Another key instead of the first; a root is signed with both once."""
        old = self.signers[role].pop(0)
        self.root.revoke_key(old.public_key.keyid, role)
        self.add_key(role, signer(name))
        self.root.version += 1
        self.publish_root(*([old] if role == "root" else []))

    def sign(self, role: str, signed: Signed, *more: CryptoSigner) -> bytes:
        metadata = Metadata(signed)  # type: ignore[type-var]
        for key in [*self.signers[role], *more]:
            metadata.sign(key, append=True)
        return metadata.to_bytes()

    # --- files

    def publish_root(self, *more: CryptoSigner) -> None:
        self.files[f"metadata/{self.root.version}.root.json"] = self.sign("root", self.root, *more)

    def new_root(self) -> None:
        self.root.version += 1
        self.publish_root()

    def put(self, role: str, version: int, data: bytes) -> None:
        name = f"{version}.{role}.json" if self.root.consistent_snapshot else f"{role}.json"
        self.files[f"metadata/{name}"] = data

    def meta(self, version: int, data: bytes) -> MetaFile:
        return MetaFile.from_data(version, data, ["sha256"]) if self.hashed else MetaFile(version)

    def publish_targets(self) -> None:
        for role, signed in {"targets": self.targets, **self.delegated}.items():
            data = self.sign(role, signed)
            self.put(role, signed.version, data)
            self.snapshot.meta[f"{role}.json"] = self.meta(signed.version, data)

    def publish_snapshot(self) -> None:
        data = self.sign("snapshot", self.snapshot)
        self.put("snapshot", self.snapshot.version, data)
        self.timestamp.snapshot_meta = self.meta(self.snapshot.version, data)

    def publish_timestamp(self) -> None:
        self.files["metadata/timestamp.json"] = self.sign("timestamp", self.timestamp)

    def publish(self) -> None:
        self.publish_targets()
        self.publish_snapshot()
        self.publish_timestamp()

    def next(self) -> None:
        """A new version of all three."""
        self.targets.version += 1
        self.next_snapshot()

    def next_snapshot(self) -> None:
        self.snapshot.version += 1
        self.timestamp.version += 1
        self.publish()

    # --- targets and delegations

    def add_target(self, path: str, data: bytes, role: str = "targets", *, prefixed: bool = True) -> None:
        file = TargetFile.from_data(path, data)
        (self.targets if role == "targets" else self.delegated[role]).targets[path] = file
        parent, separator, name = path.rpartition("/")
        stored = f"{parent}{separator}{file.hashes['sha256']}.{name}" if prefixed else path
        self.files[f"targets/{stored}"] = data

    def delegate(
        self, delegator: str, *roles: DelegatedRole, keys: dict[str, CryptoSigner] | None = None
    ) -> None:
        """Append these; each has a key of its own name, unless `keys` says another."""
        signed = self.targets if delegator == "targets" else self.delegated[delegator]
        if signed.delegations is None:
            signed.delegations = Delegations({}, roles={})
        assert signed.delegations.roles is not None
        for role in roles:
            key = (keys or {}).get(role.name, signer(role.name))
            signed.delegations.roles[role.name] = role
            signed.add_key(key.public_key, role.name)
            self.delegated.setdefault(role.name, Targets(expires=LATER))
            self.signers.setdefault(role.name, [signer(role.name)])


def to(name: str, *paths: str, terminating: bool = False) -> DelegatedRole:
    return DelegatedRole(name, [], 1, terminating, list(paths) or ["*"])


class Served:
    """A repository on localhost. `requests`: paths as they came over the wire, since `clear`."""

    def __init__(self, repository: TufRepository, url: str) -> None:
        self.repository = repository
        self.url = url
        self.requests: list[str] = []
        self.answers: dict[str, int] = {}  # HTTP statuses instead of files

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/metadata"

    @property
    def targets_url(self) -> str:
        return f"{self.url}/targets"


@contextmanager
def serve(repository: TufRepository) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/")
            served.requests.append(path)
            name = path
            if path.startswith("targets/"):
                name = unquote(path)
            else:
                folder, _, file = path.rpartition("/")
                name = f"{folder}/{unquote(file)}"
            data = served.repository.files.get(name)
            status = served.answers.get(path, 404 if data is None else 200)
            self.send_response(status)
            body = (data or b"") if status == 200 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(repository, f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Folders:
    def __init__(self, served: Served, folder: Path) -> None:
        self.served = served
        self.metadata, self.downloads = folder / "metadata", folder / "targets"
        for each in (self.metadata, self.downloads):
            each.mkdir(parents=True)

    def version(self, role: str) -> int:
        """0 for none."""
        path = self.metadata / f"{role}.json"
        return int(json.loads(path.read_bytes())["signed"]["version"]) if path.exists() else 0

    def versions(self) -> list[int]:
        return [self.version(role) for role in ("root", "timestamp", "snapshot", "targets")]

    def asked(self) -> list[str]:
        """What was requested since the last call, without the folder of metadata."""
        asked = [path.removeprefix("metadata/") for path in self.served.requests]
        self.served.requests.clear()
        return asked


@cache
def script() -> ModuleType:
    loader = SourceFileLoader("tuf_client", str(CLIENT))
    spec = spec_from_loader("tuf_client", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


class Ours(_Folders):
    def _run(self, now: datetime, *words: str) -> bool:
        try:
            script().run(["--metadata-dir", str(self.metadata), *words], now)
        except CellwardError as error:
            assert str(error).startswith("[")
            return False
        return True

    def init(self, root: bytes) -> bool:
        file = self.metadata.parent / "shipped.json"
        file.write_bytes(root)
        return self._run(NOW, "init", str(file))

    def refresh(self, now: datetime = NOW) -> bool:
        return self._run(now, "--metadata-url", self.served.metadata_url, "refresh")

    def download(self, *names: str, now: datetime = NOW) -> bool:
        targets = [word for name in names for word in ("--target-name", name)]
        where = ("--target-base-url", self.served.targets_url, "--target-dir", str(self.downloads))
        return self._run(now, "--metadata-url", self.served.metadata_url, *targets, *where, "download")


class Witness(_Folders):
    def _updater(self, now: datetime) -> Updater:
        updater = Updater(
            str(self.metadata),
            self.served.metadata_url,
            str(self.downloads),
            self.served.targets_url,
            bootstrap=None,
        )
        updater._trusted_set.reference_time = now  # there is no public way
        return updater

    def init(self, root: bytes) -> bool:
        (self.metadata / "root.json").write_bytes(root)
        return True

    def refresh(self, now: datetime = NOW) -> bool:
        try:
            self._updater(now).refresh()
        except (RepositoryError, DownloadError):
            return False
        return True

    def download(self, *names: str, now: datetime = NOW) -> bool:
        try:
            updater = self._updater(now)
            updater.refresh()
            for name in names:
                found = updater.get_targetinfo(name)
                if found is None:
                    return False
                if updater.find_cached_target(found) is None:
                    updater.download_target(found)
        except (RepositoryError, DownloadError):
            return False
        return True


Client = Ours | Witness


def use(server: Served, repository: TufRepository) -> TufRepository:
    """Serve this one from now on."""
    server.repository = repository
    server.answers.clear()
    server.requests.clear()
    return repository


def started(client: Client) -> Client:
    """With what is published now."""
    assert client.init(client.served.repository.files["metadata/1.root.json"])
    assert client.refresh()
    client.asked()
    return client
