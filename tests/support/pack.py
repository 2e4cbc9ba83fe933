"""A pack for attacks: one module, one controller's agent, and a server that the test owns fully.

Real parts: agent, trust, images, metadata, manifests. Fakes: the module's processor and the network.
"""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from hashlib import sha256

from cellward.core import image
from cellward.core.errors import STATUS_WORDS, CellwardError, Code, Unavailable
from cellward.core.image import Version
from cellward.core.metadata import (
    Assignment,
    Ecu,
    Factory,
    Manifest,
    Repository,
    Role,
    Target,
    encode_factory,
    file_name,
    target_name,
    verify_manifest,
)
from cellward.core.slots import (
    BMS_M33,
    OTP_LIFECYCLE,
    TRAILER_MAGIC,
    WRITE_SIZE,
    Hardware,
    Lifecycle,
    Stage,
    flag_phrase,
)
from cellward.device.agent import Agent
from cellward.device.calibrate import Calibrations
from cellward.device.cycle import Cycle
from cellward.device.memory import Device, Memory, ModuleEntry
from cellward.device.tamper import Guard
from cellward.device.update import Watch
from cellward.ports.module import BootEvent, BootReport, Outcome
from cellward.ports.updatelink import REQUEST_HEADER_SIZE as HEAD
from cellward.ports.updatelink import Request
from tests.fakes.module import FakeModule
from tests.fakes.store import MemoryStore
from tests.fakes.tls import Authority
from tests.fakes.transport import FakeTransport
from tests.support.uptane import (
    DIRECTOR_OWNER,
    IMAGE_OWNER,
    NOW,
    VEHICLE,
    Holder,
    director_release,
    holder,
    image_release,
)

SERIAL = "M-0001"
FIRMWARE = "firmware"
ADDRESS = "m1.module"
ECU = {stage: Ecu(f"{SERIAL}/{stage}", BMS_M33.name) for stage in Stage}


@cache
def built(
    stage: Stage,
    version: str,
    counter: int,
    signer: str = FIRMWARE,
    hardware: Hardware = BMS_M33,
    size: int = 20_000,
    *,
    encrypted: bool = False,
) -> bytes:
    """A signed image; the payload differs with version and stage. `encrypted` only says so."""
    payload = sha256(f"{stage} {version}".encode()).digest() * (size // 32)
    unsigned = image.build(
        payload,
        version=Version.parse(version),
        counter=counter,
        hardware=(hardware.vendor_id, hardware.class_id(stage)),
        encrypted=encrypted,
    )
    key = holder(signer)
    return unsigned.signed(key.public_key, key.sign(unsigned.digest))


def target_for(data: bytes, stage: Stage, version: str, counter: int, **changes: object) -> Target:
    item = Target(
        name=target_name(BMS_M33.name, stage, version),
        length=len(data),
        sha256=sha256(data).hexdigest(),
        hardware_ids=(BMS_M33.name,),
        stage=stage,
        version=version,
        release_counter=counter,
    )
    return replace(item, **changes)  # type: ignore[arg-type]


class Identity(Holder):
    uri = "the identity of a test"


class AttackedModule(FakeModule):
    """The fake, with a link that can be tampered with and a self-test that can say why."""

    reason: Code | None = None  # of a failed self-test
    flips: int | None = None  # offset in an image at which the link delivers another byte
    refuses_at: int | None = None  # the n-th write that the flash refuses
    loses: Request | None = None  # the link is gone when the module has carried this out
    asked: list[Request]

    def exchange(self, request: bytes) -> bytes:
        kind = Request(request[0])
        self.asked = [*getattr(self, "asked", []), kind]
        answer = super().exchange(self._delivered(kind, request))
        if kind is self.loses:
            raise Unavailable(Code.LINK_SILENT, "module")
        return answer

    def _delivered(self, kind: Request, request: bytes) -> bytes:
        at = HEAD + 4 + (self.flips or 0) - int.from_bytes(request[HEAD : HEAD + 4], "little")
        if self.flips is None or kind is not Request.DATA or not HEAD + 4 <= at < len(request):
            return request
        return request[:at] + bytes([request[at] ^ 1]) + request[at + 1 :]

    def program_inside(self, bank: int, offset: int, data: bytes) -> None:
        if self.refuses_at is not None:
            self.refuses_at -= 1
            if self.refuses_at < 0:
                super().program_inside(bank, offset, data[:WRITE_SIZE])
                super().program_inside(bank, offset, data)  # unerased now: the flash says no
        super().program_inside(bank, offset, data)

    def reset(self) -> tuple[BootReport, ...]:
        reports = super().reset()
        if self.reason is None or self.selftest_passes:
            return reports
        event = BootEvent("app", reports[0].bank, STATUS_WORDS[self.reason], 44_400, 43_000, 5)
        return (replace(reports[0], events=(event,)), *reports[1:])


def plant(module: FakeModule, loader: bytes, app: bytes, counter: int, bank: int = 0) -> None:
    """What a plant leaves: fuses, images and a confirmed trailer in one bank; then power."""
    module.fuses[0:32] = holder(FIRMWARE).public_key.key_hash
    start = OTP_LIFECYCLE.offset
    module.fuses[start : start + 4] = Lifecycle.PRODUCTION.fuses.to_bytes(4, "little")
    module.counter = counter
    flash = module.banks[bank]
    for stage, data in ((Stage.LOADER, loader), (Stage.APP, app)):
        start = module.hardware.slot(stage).offset
        flash[start : start + len(data)] = data
    flash[-16:] = TRAILER_MAGIC
    flash[-24 : -24 + WRITE_SIZE] = flag_phrase()
    module.outcome = Outcome.RECOVERY
    module.reset()
    assert module.outcome is Outcome.RUNNING


@dataclass
class Pack:
    """`publish` is what the maker signs, `order` what the Director signs; `cycle` runs the agent."""

    server: FakeTransport = field(default_factory=FakeTransport)
    store: MemoryStore = field(default_factory=MemoryStore)
    module: AttackedModule = field(default_factory=lambda: AttackedModule(serial=SERIAL))
    published: dict[str, Target] = field(default_factory=dict)
    ordered: list[Assignment] = field(default_factory=list)
    versions: dict[Repository, int] = field(default_factory=lambda: dict.fromkeys(Repository, 0))
    manifests: list[Manifest] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    hints: dict[str, dict[str, int]] | None = None
    calibrations: Calibrations | None = None
    guard: Guard | None = None

    def __post_init__(self) -> None:
        plant(self.module, built(Stage.LOADER, "1.3.0", 6), built(Stage.APP, "1.3.0", 6), 6)
        authority = Authority()
        urls = ("https://server.test",)
        self.factory = Factory(
            server_ca=authority.pem,
            device_ca=authority.pem,
            director_root=DIRECTOR_OWNER.root(),
            image_root=IMAGE_OWNER.root(),
            firmware_keys=(holder(FIRMWARE).public_key,),
            director_urls=urls,
            image_urls=urls,
        )
        self.memory = Memory(self.store)
        device = Device(VEHICLE, (ModuleEntry(SERIAL, BMS_M33.name, ADDRESS),))
        self.memory.set_device(device, encode_factory(self.factory))
        self.server.posts["/v1/report"] = self._report
        for stage in Stage:
            self.publish(built(stage, "1.3.0", 6), stage, "1.3.0", 6)
        self.order()

    @property
    def signer(self) -> Identity:
        return Identity(holder("identity").private)

    # --- the maker and the Director ---

    def publish(self, data: bytes, stage: Stage, version: str, counter: int, **changes: object) -> Target:
        item = target_for(data, stage, version, counter, **changes)
        self.published[item.name] = item
        self.server.files[f"/v1/artefacts/{item.stored_name}"] = data
        self.sign(Repository.IMAGE)
        return item

    def release(self, version: str, counter: int, **how: object) -> dict[Stage, Target]:
        """Loader and app of one version, published and ordered."""
        targets = {
            stage: self.publish(built(stage, version, counter, **how), stage, version, counter)
            for stage in Stage
        }
        self.order(*targets.values())
        return targets

    def published_as(self, version: str, *stages: Stage) -> tuple[Target, ...]:
        return tuple(self.published[target_name(BMS_M33.name, stage, version)] for stage in stages)

    def order(
        self, *targets: Target, vehicle: str = VEHICLE, wrapped: Mapping[str, bytes] | None = None
    ) -> None:
        """`wrapped` has content keys by stage."""
        keys = {stage: ((ECU[Stage(stage)].ecu_id, key),) for stage, key in (wrapped or {}).items()}
        self.ordered = [
            Assignment(replace(item, plain_sha256=""), (ECU[Stage(item.stage)],), keys.get(item.stage, ()))
            for item in targets
        ]
        self.sign(Repository.DIRECTOR, vehicle)

    def sign(self, repository: Repository, vehicle: str = VEHICLE) -> None:
        """The next version of what `published` or `ordered` says now."""
        self.versions[repository] += 1
        version = self.versions[repository]
        if repository is Repository.DIRECTOR:
            made = director_release(*self.ordered, version=version, vehicle_id=vehicle)
        else:
            made = image_release(*self.published.values(), version=version)
        for name, data in made.files().items():
            self.server.files[f"/v1/{repository}/{name}"] = data

    def path(self, repository: Repository, role: Role) -> str:
        return f"/v1/{repository}/{file_name(role, self.versions[repository])}"

    def artefact(self, item: Target) -> str:
        return f"/v1/artefacts/{item.stored_name}"

    def _report(self, body: bytes) -> bytes:
        last = self.manifests[-1].counter if self.manifests else 0
        self.manifests.append(verify_manifest(body, self.signer.public_key, VEHICLE, last))
        hints = self.hints or {
            str(repository): {"root": 1, "timestamp": self.versions[repository]} for repository in Repository
        }
        return json.dumps(hints).encode()

    # --- the vehicle ---

    def agent(self) -> Agent:
        """A new process: nothing but the store is kept."""
        return Agent(
            self.memory.device(),
            self.memory.factory(),
            self.memory,
            self.signer,
            dict.fromkeys(Repository, self.server),
            lambda _: nullcontext(self.module),
            Watch(self.lines.append),
            calibrations=self.calibrations,
            guard=self.guard,
        )

    def cycle(self, now: datetime = NOW) -> Cycle:
        return self.agent().cycle(now)

    def refused(self, code: Code, now: datetime = NOW) -> CellwardError:
        """One cycle that ends in this refusal, told to the server if the server can be reached."""
        error = self.cycle(now).refusal
        assert error is not None
        assert error.code is code, str(error)
        return error

    def told(self, ecu_id: str) -> str:
        """The code that the last manifest carries for this ECU."""
        report = self.manifests[-1].report(ecu_id)
        assert report is not None
        return report.result.code if report.result else ""

    def snapshot(self) -> "State":
        return State(
            banks=tuple(bytes(bank) for bank in self.module.banks),
            counter=self.module.counter,
            active=self.module.active,
            trust={
                name: self.store.read(name) or b"" for name in self.store.names() if name.startswith("trust/")
            },
        )


@dataclass(frozen=True)
class State:
    """What an attack must not change."""

    banks: tuple[bytes, ...] = field(repr=False)
    counter: int
    active: int
    trust: Mapping[str, bytes] = field(repr=False)
