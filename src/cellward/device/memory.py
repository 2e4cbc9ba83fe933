"""What the agent keeps between cycles and across power cuts, in one Store.

::

    device.json                     vehicle, modules                        (enrol)
    factory.json                    the factory data                        (enrol)
    server-cas.json                 the newest statement on server CAs
    identity/…                      key and certificate                     (device.identity)
    measured.json                   the event log of this start             (device.measured)
    trust/REPOSITORY/ROLE.json      trusted metadata, verified again on load
    trust/REPOSITORY/delegated/…    likewise, by the names of delegated roles
    counter.json                    the last manifest counter used
    clock.json                      the last attested time, and whose it was
    results.json                    how the last attempt of each ECU ended
    attempt/SERIAL.json             an installation under way
    rejected/SERIAL.json            what fell back: not tried again until another order comes
    installed/SERIAL.json           what runs, as the module told last
    calibrated/SERIAL.json          what was made of its calibration at the last look
    observed/SERIAL.json            what was outside of its calibration, counted (core.health)
    owner/challenge.txt             what the owner is asked to sign (device.owner)
    attempts.json                   when an authentication was last tried (device.attempts)
    download/SHA256                 an image, perhaps the beginning of one
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from cellward.core import serverca, strictjson
from cellward.core.errors import Code, FormatRefused, Unavailable
from cellward.core.health import Observed
from cellward.core.metadata import (
    Ecu,
    Factory,
    Installed,
    InstallResult,
    Repository,
    Role,
    check_vehicle_id,
    decode_factory,
)
from cellward.core.serverca import ServerCas
from cellward.core.slots import BANKS, Stage
from cellward.core.strictjson import SHA256_HEX, Fields
from cellward.core.trust import TrustedRepository, load
from cellward.ports.store import Store

LIMIT = 1024 * 1024
SERVER_CAS = "server-cas.json"
MAX_MODULES = 64


@dataclass(frozen=True)
class ModuleEntry:
    """A module of this vehicle: where its link is, who it said it was at enrolment."""

    serial: str
    hardware: str
    address: str

    @property
    def ecus(self) -> tuple[Ecu, ...]:
        return tuple(Ecu(f"{self.serial}/{stage}", self.hardware) for stage in Stage)


@dataclass(frozen=True)
class Attested:
    """Of a controller that enrolled with its TPM: where it renews its certificate, its key's fingerprint."""

    server: str
    identity_key: str


@dataclass(frozen=True)
class Device:
    """What was decided at enrolment. `attested` is None for a software identity."""

    vehicle: str
    modules: tuple[ModuleEntry, ...]
    attested: Attested | None = None

    @property
    def ecus(self) -> tuple[Ecu, ...]:
        return tuple(ecu for module in self.modules for ecu in module.ecus)

    def with_tpm(self) -> "Device":
        """Raises Unavailable (tpm.absent) for a software identity: its controller keeps no secrets."""
        if self.attested is None:
            raise Unavailable(
                Code.TPM_ABSENT,
                f"vehicle {self.vehicle}",
                expected="a controller that enrolled with its TPM",
                found="one with a software identity",
                advice="enrol it again with its TPM: --again",
            )
        return self


@dataclass(frozen=True)
class Attempt:
    """An installation that has begun. `counter` is the module's once it is committed."""

    serial: str
    bank: str
    counter: int
    images: tuple[tuple[str, str], ...]  # ECU id, SHA-256 of the image in hex
    detail: str  # what the safety gates measured


@dataclass(frozen=True)
class Result:
    """How an ECU's last attempt ended, and the attack that it looks like, if any."""

    result: InstallResult
    attack: str = ""


class Memory:
    """Typed access to the Store. Raises Unavailable (storage.*) and FormatRefused (metadata.format)."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # --- enrolment ---------------------------------------------------------------------------

    def device(self) -> Device:
        """Raises Unavailable (enrol.missing) before enrolment."""
        fields = self._fields("device.json")
        if fields is None:
            raise Unavailable(
                Code.ENROL_MISSING,
                "this device",
                expected="an enrolled device",
                found="an empty state directory",
                advice="run `cellward device enrol` first",
            )
        entries = (Fields(entry, "device.json module") for entry in fields.items("modules", MAX_MODULES))
        modules = tuple(
            ModuleEntry(entry.text("serial"), entry.text("hardware"), entry.text("address", limit=4096))
            for entry in entries
        )
        attested = None
        if "attested" in fields:
            its = fields.fields("attested")
            attested = Attested(its.text("server"), its.text("identity_key", SHA256_HEX))
        return Device(check_vehicle_id(fields.text("vehicle")), modules, attested)

    def set_device(self, device: Device, factory: bytes) -> None:
        """The factory data first: without device.json nothing is enrolled. With other ones the server CAs
        are those of the plant again."""
        if self.store.read("factory.json") != factory:
            self.store.delete(SERVER_CAS)
        self.store.write("factory.json", factory)
        modules = [
            {"serial": entry.serial, "hardware": entry.hardware, "address": entry.address}
            for entry in device.modules
        ]
        tree: dict[str, object] = {"vehicle": device.vehicle, "modules": modules}
        if device.attested is not None:
            tree["attested"] = asdict(device.attested)
        self._write("device.json", tree)

    def factory(self) -> Factory:
        return decode_factory(self.factory_data())

    def factory_data(self) -> bytes:
        data = self.store.read("factory.json")
        if data is None:
            raise Unavailable(Code.STORAGE_MISSING, "factory.json", expected="the factory data", found="none")
        return data

    # --- server CAs --------------------------------------------------------------------------

    def server_cas(self) -> ServerCas | None:
        """The newest statement that was taken. A bad block must not lock a pack out that could still get in
        by its factory data; who can write here can write those too."""
        data = self.store.read(SERVER_CAS)
        try:
            return None if data is None else serverca.read(data)
        except FormatRefused:
            return None

    def set_server_cas(self, taken: ServerCas) -> None:
        self.store.write(SERVER_CAS, taken.data)

    def server_ca(self, factory: Factory, data: bytes | None = None) -> bytes:
        """The CAs, PEM, that a server is taken from: of the newest statement, or of the factory data; always
        theirs where their `data` are others than those that the statement came after."""
        other = data is not None and data != self.store.read("factory.json")
        held = None if other else self.server_cas()
        return factory.server_ca if held is None else held.pem

    # --- trusted metadata --------------------------------------------------------------------

    def trusted(self, repository: Repository, factory: Factory) -> TrustedRepository:
        """What was trusted last, every signature verified again; at first the factory's root."""
        files = {role: self.store.read(_trust_name(repository, role)) for role in Role}
        held = {role: data for role, data in files.items() if data is not None}
        roles = self._roles(repository)
        delegated = {role: self.store.read(_delegated(repository, role)) or b"" for role in roles}
        return load(repository, {Role.ROOT: factory.root(repository), **held}, delegated)

    def set_trusted(self, state: TrustedRepository) -> None:
        """In the order that leaves something loadable at any cut (core.trust)."""
        files = state.files()
        for role in Role:
            name = _trust_name(state.repository, role)
            data = files.get(role)
            if data is None:
                self.store.delete(name)
            elif data != self.store.read(name):
                self.store.write(name, data)
        delegated = state.delegated_files()
        for role_name, data in delegated.items():
            if data != self.store.read(name := _delegated(state.repository, role_name)):
                self.store.write(name, data)
        for role_name in self._roles(state.repository):
            if role_name not in delegated:
                self.store.delete(_delegated(state.repository, role_name))

    def _roles(self, repository: Repository) -> list[str]:
        """The delegated roles of which a file is kept."""
        folder = _delegated(repository, "").removesuffix(".json")
        found = [name.removeprefix(folder) for name in self.store.names() if name.startswith(folder)]
        return [name.removesuffix(".json") for name in found]

    # --- reports -----------------------------------------------------------------------------

    def next_counter(self) -> int:
        """A manifest counter that was never used: written before it is used."""
        fields = self._fields("counter.json")
        counter = 1 if fields is None else fields.integer("counter") + 1
        self._write("counter.json", {"counter": counter})
        return counter

    def attested(self) -> tuple[datetime, str] | None:
        """The last attested time, and a hash of the keys that were trusted for it. A bad block is refused:
        who could damage it could set the clock back."""
        fields = self._fields("clock.json")
        return None if fields is None else (fields.time("time"), fields.text("keys", SHA256_HEX))

    def set_attested(self, at: datetime, keys: str) -> None:
        self._write("clock.json", {"time": strictjson.format_time(at), "keys": keys})

    def results(self) -> dict[str, Result]:
        fields = self._note("results.json")
        if fields is None:
            return {}
        return {ecu_id: _result(fields.fields(ecu_id)) for ecu_id in fields.names()}

    def set_results(self, changed: Mapping[str, Result | None]) -> None:
        """None forgets."""
        before = self.results()
        after = {ecu: result for ecu, result in {**before, **changed}.items() if result is not None}
        if after != before:
            tree = {
                ecu: {**result.result.to_json(), "attack": result.attack} for ecu, result in after.items()
            }
            self._write("results.json", tree)

    # --- installations -----------------------------------------------------------------------

    def attempt(self, serial: str) -> Attempt | None:
        fields = self._note(f"attempt/{serial}.json")
        if fields is None:
            return None
        images = fields.fields("images")
        bank = fields.text("bank")
        return Attempt(
            serial=serial,
            bank=bank if bank in BANKS else strictjson.refuse(fields.what, "a bank", repr(bank[:40])),
            counter=fields.integer("counter"),
            images=tuple((ecu, images.text(ecu, SHA256_HEX)) for ecu in images.names()),
            detail=fields.text("detail", limit=4096),
        )

    def begin(self, attempt: Attempt) -> None:
        tree = {
            "bank": attempt.bank,
            "counter": attempt.counter,
            "images": dict(attempt.images),
            "detail": attempt.detail,
        }
        self._write(f"attempt/{attempt.serial}.json", tree)

    def end(self, serial: str) -> None:
        self.store.delete(f"attempt/{serial}.json")

    def rejected(self, serial: str) -> tuple[str, ...]:
        """SHA-256 in hex, sorted, of the images that fell back together."""
        fields = self._note(f"rejected/{serial}.json")
        return () if fields is None else fields.texts("images", SHA256_HEX, len(Stage))

    def reject(self, attempt: Attempt) -> None:
        images = sorted({sha256 for _, sha256 in attempt.images})
        self._write(f"rejected/{attempt.serial}.json", {"images": images})

    def unreject(self, serial: str) -> None:
        self.store.delete(f"rejected/{serial}.json")

    # --- what runs, and downloads ------------------------------------------------------------

    def seen(self, serial: str) -> dict[Stage, Installed]:
        fields = self._note(f"installed/{serial}.json")
        if fields is None:
            return {}
        return {stage: _installed(fields.fields(stage)) for stage in Stage if stage in fields}

    def set_seen(self, serial: str, seen: Mapping[Stage, Installed]) -> None:
        if seen != self.seen(serial):
            self._write(f"installed/{serial}.json", {stage: item.to_json() for stage, item in seen.items()})

    def calibrated(self, serial: str) -> dict[str, str]:
        fields = self._note(f"calibrated/{serial}.json")
        return {} if fields is None else {name: fields.text(name, limit=4096) for name in fields.names()}

    def set_calibrated(self, serial: str, note: Mapping[str, str]) -> None:
        """Nothing forgets. What stood there is not read: a bad block must not end all updates."""
        name, data = f"calibrated/{serial}.json", strictjson.encode(dict(note))
        if not note:
            self.store.delete(name)
        elif data != self.store.read(name):
            self.store.write(name, data)

    def observed(self, serial: str) -> Observed | None:
        """None for what was never counted, or is no count: it begins anew, and says since when."""
        fields = self._note(f"observed/{serial}.json")
        try:
            return None if fields is None else Observed.read(fields)
        except FormatRefused:
            return None

    def set_observed(self, serial: str, observed: Observed) -> None:
        self._write(f"observed/{serial}.json", observed.tree())

    def download(self, sha256: str) -> bytes:
        return self.store.read(f"download/{sha256}") or b""

    def set_download(self, sha256: str, data: bytes) -> None:
        self.store.write(f"download/{sha256}", data)

    def forget_downloads(self, keep: frozenset[str] = frozenset()) -> None:
        for name in list(self.store.names()):
            folder, _, sha256 = name.partition("/")
            if folder == "download" and sha256 not in keep:
                self.store.delete(name)

    # --- JSON --------------------------------------------------------------------------------

    def _fields(self, name: str) -> Fields | None:
        data = self.store.read(name)
        return None if data is None else Fields(strictjson.decode(data, name, LIMIT), name)

    def _note(self, name: str) -> Fields | None:
        """Like `_fields`, for what can be done without: a bad block must not end all updates."""
        try:
            return self._fields(name)
        except FormatRefused:
            return None

    def _write(self, name: str, tree: object) -> None:
        self.store.write(name, strictjson.encode(tree))


def _trust_name(repository: Repository, role: Role) -> str:
    return f"trust/{repository}/{role}.json"


def _delegated(repository: Repository, name: str) -> str:
    return f"trust/{repository}/delegated/{name}.json"


def _result(fields: Fields) -> Result:
    result = InstallResult(*(fields.text(name) for name in ("code", "expected", "found", "detail")))
    return Result(result, fields.text("attack"))


def _installed(fields: Fields) -> Installed:
    return Installed(
        filename=fields.text("filename"),
        length=fields.integer("length"),
        sha256=fields.sha256("hashes"),
        version=fields.text("version"),
        release_counter=fields.integer("release_counter"),
    )
