"""An independent witness: python-tuf's own client takes our metadata, and ours takes python-tuf's.

The clients disagree on nothing that both check; what only Uptane asks for has its own tests.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from cellward.core import trust
from cellward.core.errors import Refused
from cellward.core.metadata import (
    Assignment,
    Repository,
    Role,
    make_director_targets,
    make_targets,
)
from cellward.core.trust import TrustedRepository
from tests.support.uptane import (
    DIRECTOR_OWNER,
    ECUS,
    IMAGE_BYTES,
    IMAGE_OWNER,
    VEHICLE,
    Dates,
    Release,
    Served,
    order,
    release,
    sign,
    target,
)

# python-tuf reads the operating system's clock, so these releases are made for it.
TODAY = datetime.now(UTC).replace(microsecond=0)
DATES = Dates(*[TODAY + timedelta(days=1)] * 3)
IMAGE = target(sha256=hashlib.sha256(IMAGE_BYTES).hexdigest())


class Shelf(FetcherInterface):
    """python-tuf's fetcher over a dictionary."""

    def __init__(self, files: Served) -> None:
        super().__init__()
        self.files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = urlsplit(url).path.removeprefix("/metadata/").removeprefix("/targets/")
        if name not in self.files:
            raise DownloadHTTPError("not here", 404)
        yield self.files[name]


def client(folder: Path, root: bytes, files: Served) -> Updater:
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url="https://repository.test/metadata/",
        target_base_url="https://repository.test/targets/",
        target_dir=str(folder),
        fetcher=Shelf(files),
        bootstrap=root,
    )


def ours(repository: Repository) -> tuple[bytes, Served]:
    """Root 1, and what is served: root 2 with other keys, and a release made with them."""
    expires = DATES.targets
    if repository is Repository.DIRECTOR:
        old = DIRECTOR_OWNER
        owner = old.rekeyed(timestamp=("d2",), snapshot=("d2",), targets=("d2",))
        metadata = make_director_targets(
            version=3, expires=expires, vehicle_id=VEHICLE, assignments=[order(IMAGE)]
        )
    else:
        old = IMAGE_OWNER
        owner = old.rekeyed(timestamp=("t2",))
        metadata = make_targets(version=3, expires=expires, targets=[IMAGE])
    made = release(owner, sign(metadata, *owner.holders(Role.TARGETS)), 3, DATES)
    later = TODAY + timedelta(days=365)
    files = {**made.files(), "2.root.json": owner.root(2, expires=later)}
    return old.root(1, expires=later), {**files, IMAGE.stored_name: IMAGE_BYTES}


@pytest.mark.parametrize("repository", Repository)
def test_python_tuf_takes_what_we_build(repository: Repository, tmp_path: Path) -> None:
    root, files = ours(repository)
    updater = client(tmp_path, root, files)
    updater.refresh()
    found = updater.get_targetinfo(IMAGE.name)
    assert found is not None
    assert (found.length, found.hashes) == (IMAGE.length, {"sha256": IMAGE.sha256})
    assert found.custom["release_counter"] == IMAGE.release_counter
    path = updater.download_target(found, str(tmp_path / "image"))
    assert Path(path).read_bytes() == IMAGE_BYTES


@pytest.mark.parametrize("repository", Repository)
@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "3.snapshot.json", "3.targets.json"])
def test_both_refuse_a_changed_file(repository: Repository, name: str, tmp_path: Path) -> None:
    root, files = ours(repository)
    # A thousand years longer: metadata still, in form and of the same length, but not what was signed.
    changed = files[name].replace(b'"expires":"2', b'"expires":"3', 1)
    assert changed != files[name]
    served = {**files, name: changed}
    with pytest.raises(RepositoryError):
        client(tmp_path, root, served).refresh()
    with pytest.raises(Refused):
        _follow(trust.load(repository, {Role.ROOT: root}), served, TODAY)


def _follow(state: TrustedRepository, served: Served, now: datetime) -> TrustedRepository:
    if "2.root.json" in served:
        state = trust.update_root(state, served["2.root.json"])
    state = trust.update_timestamp(state, served["timestamp.json"], now)
    state = trust.update_snapshot(state, served["3.snapshot.json"], now)
    return trust.update_targets(state, served["3.targets.json"], now)


def theirs(targets: dict[str, TargetFile], extra: dict[str, object]) -> tuple[bytes, Release]:
    """A repository as python-tuf's documentation makes one: its signers, key ids and serializer."""
    signers = {role: CryptoSigner.generate_ecdsa() for role in Role}
    root = Root(expires=TODAY + timedelta(days=365))
    for role, signer in signers.items():
        root.add_key(signer.public_key, role)

    def finish(
        metadata: Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp],
    ) -> bytes:
        metadata.sign(signers[Role(metadata.signed.type)])
        return metadata.to_bytes()

    expires = TODAY + timedelta(days=1)
    signed_targets = Targets(3, expires=expires, targets=targets, unrecognized_fields=extra)
    targets_data = finish(Metadata(signed_targets))
    snapshot_data = finish(Metadata(Snapshot(3, expires=expires, meta={"targets.json": MetaFile(3)})))
    meta = MetaFile.from_data(3, snapshot_data, ["sha256"])
    timestamp_data = finish(Metadata(Timestamp(3, expires=expires, snapshot_meta=meta)))
    return finish(Metadata(root)), Release(timestamp_data, snapshot_data, targets_data, 3)


def test_we_take_what_python_tuf_builds() -> None:
    file = TargetFile.from_data(IMAGE.name, IMAGE_BYTES)
    file.unrecognized_fields = {"custom": IMAGE.custom()}
    root, made = theirs({IMAGE.name: file}, {})
    image = _follow(trust.load(Repository.IMAGE, {Role.ROOT: root}), made.files(), TODAY)

    ordered = TargetFile.from_data(IMAGE.name, IMAGE_BYTES)
    ecus = {"M-0001/app": {"hardware_id": "bms-m33"}}
    ordered.unrecognized_fields = {"custom": {**IMAGE.custom(), "ecu_identifiers": ecus}}
    root, made = theirs({IMAGE.name: ordered}, {"custom": {"vehicle_id": VEHICLE}})
    director = _follow(trust.load(Repository.DIRECTOR, {Role.ROOT: root}), made.files(), TODAY)

    orders = trust.check_director_targets(director, TODAY, vehicle_id=VEHICLE, ecus=ECUS)
    assert orders == (Assignment(IMAGE, (ECUS[1],)),)
    (found,) = trust.match(orders, image, {}, TODAY)
    assert trust.verify_download(found.target, IMAGE_BYTES) == IMAGE_BYTES
