"""The app's end of the update link, its calibration and its watch over its own bank, on the host."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cellward.core import wire
from cellward.core.errors import STATUS_OK, STATUS_WORDS, Code
from cellward.core.image import decode
from cellward.core.slots import (
    BMS_M33,
    DATA_PAGE_SIZE,
    DATA_SIZE,
    OTP_LIFECYCLE,
    OTP_VAULT_CALIBRATION,
    DataPage,
    Lifecycle,
    Stage,
)
from cellward.core.vault import Block, Calibration, Name, encode, open_pages
from cellward.ports.updatelink import Request, encode_request
from cellward.vbms.registers import PACK_BASE, RETAIN_UPDATE, Pack, Where
from tests.firmware.host_link import HostLink, Region, Result, host_link
from tests.firmware.rig import Rig
from tests.firmware.test_update_engine import APP, LOADER

VAULT_KEY = bytes(range(32))
RECORDS = bytes([1]) * 88, bytes([2]) * 88
CALIBRATION = Calibration(
    current_gain_ppm=-20_000, current_offset_ma=500, cell_over_mv=4100, cell_under_mv=3000
)
BLOCK = Block(1, 1, CALIBRATION.encode())
VAULT_PAGE = DataPage.VAULT_CALIBRATION.value * DATA_PAGE_SIZE


def measured(image: bytes) -> bytes:
    decoded = decode(image)
    return wire.u32(decoded.signed_size) + decoded.digest


@dataclass
class Field:
    """A module on bank 0 with an app that is confirmed and committed."""

    link: HostLink
    lifecycle: Lifecycle = Lifecycle.PRODUCTION
    vault_key: bytes = VAULT_KEY
    measured: bytes = field(default=measured(LOADER) + measured(APP))

    def prepare(self) -> "Field":
        """Fuses, images, and the handover as ROM and loader fill it."""
        self.link.poke(Region.FUSES, 0, bytes(Rig.planted().fuses))
        self.link.poke(Region.FUSES, OTP_LIFECYCLE.offset, wire.u32(self.lifecycle.fuses))
        for stage, image in ((Stage.LOADER, LOADER), (Stage.APP, APP)):
            self.link.poke(Region.BANK_A, BMS_M33.slot(stage).offset, image)
        keys = bytes(32) * 3 + self.vault_key
        self.link.handover(wire.u32(2) + wire.u32(9) + keys + b"".join(RECORDS) + self.measured)
        return self

    def calibrated(self, block: Block = BLOCK, page: int = 0) -> "Field":
        data = encode(Name.CALIBRATION, VAULT_KEY, block, bytes(range(16)))
        self.link.poke(Region.DATA, VAULT_PAGE + page * DATA_PAGE_SIZE, data)
        return self

    def start(self) -> "Field":
        assert self.link.start(Where.APP) is Result.RUNS
        return self

    def set(self, register: Pack, value: int, number: int = 0) -> None:
        self.link.pack(PACK_BASE + register + 4 * number, value)

    def closes(self) -> bool:
        """Whether the contactors close on a request that is made anew."""
        self.set(Pack.CLOSE_REQUEST, 0)
        self.link.idle(2)
        self.set(Pack.CLOSE_REQUEST, 1)
        self.link.idle(2)
        return self.link.view().contactors == 1

    def status(self, request: Request, payload: bytes = b"") -> int:
        return self.link.ask(request, payload).status

    def told(self) -> list[int]:
        return [event[1] for event in self.link.view().events]


@pytest.fixture
def link() -> Iterator[HostLink]:
    with host_link() as link:
        yield link
        view = link.view()
        assert (view.faults, view.touched[0], view.touched[1]) == (0, 0, 0)


@pytest.fixture
def module(link: HostLink) -> Field:
    return Field(link).prepare().calibrated().start()


# Requests -----------------------------------------------------------------------------------------


def test_it_tells_what_it_was_given(module: Field) -> None:
    told = module.link.ask(Request.IDENTIFY).payload
    assert (told[1], told[3], told[-65:]) == (Where.APP, 2, bytes(65))
    assert module.link.ask(Request.BOOT_RECORD).payload == b"".join(RECORDS)


def test_digest_takes_its_time(module: Field) -> None:
    told = module.link.ask(Request.DIGEST, bytes([0, 1, 0, 0])).payload
    assert told[:36] == wire.u32(len(APP)) + hashlib.sha256(APP).digest()
    assert module.status(Request.DIGEST, bytes([1, 1, 0, 0])) == STATUS_WORDS[Code.BANK_NOT_BOOTABLE]
    assert module.status(Request.DIGEST, bytes([0, 2, 0, 0])) == STATUS_WORDS[Code.LINK_FRAME]
    assert module.status(Request.IDENTIFY) == STATUS_OK


def test_the_engine_is_not_the_apps(module: Field) -> None:
    for request, size in ((Request.BEGIN, 4), (Request.IMAGE, 8), (Request.DATA, 8), (Request.COPY, 4)):
        assert module.status(request, bytes(size)) == STATUS_WORDS[Code.LINK_STATE]
    assert module.status(Request.FINISH) == STATUS_WORDS[Code.LINK_STATE]
    assert module.status(Request.ABORT) == STATUS_OK
    assert module.link.view().operations == 0


@pytest.mark.parametrize("request_", [Request.ENTER_UPDATE, Request.RESTART], ids=lambda r: r.name.lower())
def test_it_leaves_only_an_open_pack(module: Field, request_: Request) -> None:
    assert module.closes()
    assert module.status(request_) == STATUS_WORDS[Code.UPDATE_CONTACTORS]
    assert module.link.view().retain == 0
    assert module.link.view().contactors == 1
    module.set(Pack.CLOSE_REQUEST, 0)
    result, _ = module.link.frame(encode_request(request_, 1))
    assert result is Result.RESET
    assert module.link.view().retain == (RETAIN_UPDATE if request_ is Request.ENTER_UPDATE else 0)


def test_a_revocation_is_stored_for_the_rom(module: Field) -> None:
    assert module.status(Request.REVOKE, b"CWRV") == STATUS_WORDS[Code.REVOCATION_FORMAT]
    assert module.link.view().operations == 0
    points = sorted(bytes([4]) + bytes([n]) * 64 for n in (1, 2))
    data = b"CWRV" + bytes([1, 1, 2, 1]) + bytes(32) + b"".join(points) + bytes(65)
    assert module.status(Request.REVOKE, data) == STATUS_OK
    at = DataPage.REVOCATION.value * DATA_PAGE_SIZE
    assert module.link.peek(Region.DATA, at, 4 + len(data)) == wire.u32(len(data)) + data
    assert module.link.view().pages == {DataPage.REVOCATION.value}


# Vault --------------------------------------------------------------------------------------------


def vault_write(value: bytes, name: int = 0, version: int = 7) -> bytes:
    return bytes([name, 0, 0, 0]) + wire.u32(version) + value


def test_the_vault_is_written_at_the_plant(link: HostLink) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().start()
    assert module.status(Request.VAULT_READ, bytes(4)) == STATUS_WORDS[Code.VAULT_MISSING]
    assert module.status(Request.VAULT_WRITE, vault_write(CALIBRATION.encode())) == STATUS_OK
    pages = [link.peek(Region.DATA, VAULT_PAGE + n * DATA_PAGE_SIZE, DATA_PAGE_SIZE) for n in range(2)]
    assert open_pages(Name.CALIBRATION, VAULT_KEY, pages, 0) == Block(7, 1, CALIBRATION.encode())
    told = link.ask(Request.VAULT_READ, bytes(4)).payload
    assert told == wire.u32(7) + wire.u32(1) + CALIBRATION.encode()
    # Until the ROM has committed it, there is no second one.
    assert (
        module.status(Request.VAULT_WRITE, vault_write(CALIBRATION.encode())) == STATUS_WORDS[Code.LINK_STATE]
    )
    assert link.view().pages < {2, 3}


@pytest.mark.parametrize("lifecycle", [Lifecycle.PRODUCTION, Lifecycle.TAMPERED, Lifecycle.RETIRED], ids=str)
def test_in_the_field_the_vault_is_not_written(link: HostLink, lifecycle: Lifecycle) -> None:
    module = Field(link, lifecycle).prepare().start()
    for name, value in ((0, CALIBRATION.encode()), (1, b"key")):
        code = Code.LIFECYCLE_CLOSED
        assert module.status(Request.VAULT_WRITE, vault_write(value, name)) == STATUS_WORDS[code]
    assert link.view().operations == 0


def test_keys_never_leave_the_vault(link: HostLink) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().start()
    assert module.status(Request.VAULT_WRITE, vault_write(b"a key of the field", 1)) == STATUS_OK
    assert module.status(Request.VAULT_READ, bytes([1, 0, 0, 0])) == STATUS_WORDS[Code.VAULT_SEAL]
    assert b"a key of the field" not in link.peek(Region.DATA, 0, DATA_SIZE)


BAD_CALIBRATIONS = [
    CALIBRATION.encode()[:-1],
    CALIBRATION.encode() + b"\0",
    (100_001).to_bytes(4, "little") + CALIBRATION.encode()[4:],
    (-100_001).to_bytes(4, "little", signed=True) + CALIBRATION.encode()[4:],
    bytes(4) + (10_001).to_bytes(4, "little") + CALIBRATION.encode()[8:],
    bytes(8) + wire.u32(5001) + wire.u32(3000),
    bytes(8) + wire.u32(4100) + wire.u32(999),
    bytes(8) + wire.u32(3000) + wire.u32(3000),
]


@pytest.mark.parametrize("value", BAD_CALIBRATIONS)
def test_what_is_no_calibration_is_not_stored(link: HostLink, value: bytes) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().start()
    assert module.status(Request.VAULT_WRITE, vault_write(value)) == STATUS_WORDS[Code.LINK_FRAME]
    for wrong in (
        vault_write(b"x", 2),
        b"\1\0\0\1" + bytes(5),
        b"\0\1\0\0" + bytes(4) + CALIBRATION.encode(),
    ):
        assert module.status(Request.VAULT_WRITE, wrong) == STATUS_WORDS[Code.LINK_FRAME]
    for wrong in (b"\2\0\0\0", b"\0\1\0\0"):
        assert module.status(Request.VAULT_READ, wrong) == STATUS_WORDS[Code.LINK_FRAME]
    assert link.view().operations == 0


# Calibration --------------------------------------------------------------------------------------


def test_calibration_changes_what_is_measured_and_allowed(module: Field) -> None:
    assert module.told() == []
    assert module.closes()
    module.set(Pack.CELL_MV, 4101)
    module.link.idle(2)
    assert (module.told(), module.link.view().contactors) == ([STATUS_WORDS[Code.SELFTEST_CELL_RANGE]], 0)
    module.set(Pack.CELL_MV, 3700)
    # 250 A are allowed: 254 591 mA × 0.98 + 500 mA are 249 999 and a bit.
    module.set(Pack.CURRENT_MA, 254_591)
    assert module.closes()
    module.set(Pack.CURRENT_MA, 254_593)
    module.link.idle(2)
    assert module.told() == [STATUS_WORDS[Code.SELFTEST_LIMITS]]


def test_calibration_never_widens(link: HostLink) -> None:
    wide = Calibration(0, 0, 5000, 1000)
    module = Field(link).prepare().calibrated(Block(1, 1, wide.encode())).start()
    assert module.closes()
    module.set(Pack.CELL_MV, 4251)
    module.link.idle(2)
    assert link.view().contactors == 0


def _edited(field: Field) -> None:
    at = VAULT_PAGE + 40
    byte = field.link.peek(Region.DATA, at, 1)[0]
    field.link.poke(Region.DATA, at, bytes([byte ^ 1]))


def _copied(field: Field) -> None:
    field.calibrated()
    other = encode(Name.CALIBRATION, bytes(32), Block(1, 1, CALIBRATION.encode()), bytes(16))
    field.link.poke(Region.DATA, VAULT_PAGE, other)


def _old(field: Field) -> None:
    field.link.poke(Region.FUSES, OTP_VAULT_CALIBRATION.offset, b"\x03")


def _missing(field: Field) -> None:
    field.link.poke(Region.DATA, VAULT_PAGE, bytes([0xFF]) * 4)


def _senseless(field: Field) -> None:
    field.calibrated(Block(1, 1, bytes(16)))


ATTACKS = {
    "edited": (_edited, Code.VAULT_SEAL),
    "copied": (_copied, Code.VAULT_SEAL),
    "old": (_old, Code.VAULT_COUNTER),
    "missing": (_missing, Code.VAULT_MISSING),
    "senseless": (_senseless, Code.VAULT_SEAL),
}


@pytest.mark.parametrize("case", ATTACKS)
def test_without_a_good_calibration_three_quarters_must_do(link: HostLink, case: str) -> None:
    attack, code = ATTACKS[case]
    module = Field(link).prepare().calibrated()
    attack(module)
    module.start()
    assert module.told() == [STATUS_WORDS[code]]
    module.set(Pack.CURRENT_MA, 187_500)
    module.set(Pack.CELL_MV, 4150)
    assert module.closes()
    module.set(Pack.CURRENT_MA, 187_501)
    module.link.idle(2)
    assert link.view().contactors == 0


@pytest.mark.parametrize("lifecycle", [Lifecycle.TAMPERED, Lifecycle.RETIRED], ids=str)
def test_a_module_without_keys_has_said_so(link: HostLink, lifecycle: Lifecycle) -> None:
    module = Field(link, lifecycle, vault_key=bytes(32)).prepare().calibrated().start()
    assert module.told() == []


def test_at_the_plant_a_bad_one_is_news(link: HostLink) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().calibrated()
    _edited(module)
    assert module.start().told() == [STATUS_WORDS[Code.VAULT_SEAL]]


def test_the_widest_calibration_is_taken(link: HostLink) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().start()
    for gain, offset in ((100_000, 10_000), (-100_000, -10_000)):
        widest = Calibration(gain, offset, cell_over_mv=5000, cell_under_mv=1000).encode()
        status = module.status(Request.VAULT_WRITE, vault_write(widest))
        assert status in (STATUS_OK, STATUS_WORDS[Code.LINK_STATE])


def test_at_the_plant_none_is_no_news(link: HostLink) -> None:
    module = Field(link, Lifecycle.PROVISIONED).prepare().start()
    assert module.told() == []
    module.set(Pack.CURRENT_MA, 187_501)
    assert not module.closes()


# Its own bank -------------------------------------------------------------------------------------

ROUND = (len(LOADER) + len(APP)) // 4096 + 4  # cycles, at least


@pytest.mark.parametrize("stage", Stage, ids=str)
@pytest.mark.parametrize("at", [0, 0x400, -150])
def test_a_bit_that_flips_while_it_runs_opens_the_contactors(module: Field, stage: Stage, at: int) -> None:
    assert module.closes()
    module.link.idle(3 * ROUND)
    assert module.told() == []
    image = {Stage.LOADER: LOADER, Stage.APP: APP}[stage]
    where = BMS_M33.slot(stage).offset + (at if at >= 0 else decode(image).signed_size + at)
    byte = module.link.peek(Region.BANK_A, where, 1)[0]
    module.link.poke(Region.BANK_A, where, bytes([byte ^ 0x10]))
    module.link.idle(2 * ROUND)
    assert module.link.view().contactors == 0
    module.link.poke(Region.BANK_A, where, bytes([byte]))
    assert not module.closes()  # for good, until the reset
    module.link.idle(3 * ROUND)
    assert module.status(Request.ENTER_UPDATE) == STATUS_OK


def test_it_is_told_once(module: Field) -> None:
    module.link.poke(Region.BANK_A, BMS_M33.app.offset + 0x300, b"\0\0")
    module.link.idle(10 * ROUND)
    assert module.told() == [STATUS_WORDS[Code.BOOT_INTEGRITY]]


@pytest.mark.parametrize("size", [0, 31, 0x10001, 0xFFFF_FFFF])
def test_a_measured_size_that_cannot_be_is_a_mismatch(link: HostLink, size: int) -> None:
    module = Field(link, measured=wire.u32(size) + bytes(32) + measured(APP)).prepare().calibrated().start()
    assert module.told() == [STATUS_WORDS[Code.BOOT_INTEGRITY]]
    assert not module.closes()
