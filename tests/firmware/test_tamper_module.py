"""A tamper event in any state of the module: nothing of its keys is left anywhere, and the pack stays off.

Every byte of the module is searched: RAM, core registers, link buffers, fuses, all flash.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import pytest

from cellward.core.errors import Code
from cellward.core.image.encryption import encrypt
from cellward.core.slots import (
    BMS_M33,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    Lifecycle,
    Stage,
    decode_lifecycle,
)
from cellward.ports.module import Outcome, Torn
from cellward.ports.updatelink import Request
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cpu import Cpu, Memories
from cellward.vbms.machine import CpuFactory
from cellward.vbms.peripherals import Peripheral
from cellward.vbms.registers import TamperSource
from tests.firmware.host_link import chunks, image
from tests.firmware.rig import Rig, names, remembering, told
from tests.firmware.test_update_module import (
    CONTENT_KEY,
    KEYS,
    OLD,
    SECRET,
    STAGES,
    Module,
    encryptable,
    planted,
    wrapped,
)

unicorn = pytest.importorskip("unicorn")

SECRETS = {
    "device secret": SECRET,
    "update scalar": KEYS.update_scalar,
    "ROM record key": KEYS.rom_record,
    "stage key": KEYS.stage,
    "loader record key": KEYS.loader_record,
    "report key": KEYS.report,
    "vault key": KEYS.vault,
    "content key": CONTENT_KEY,
}
HALF = 16  # a key that is half there is still worth finding


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = planted(Lifecycle.PRODUCTION)
    rig.stage("a", OLD, confirmed=True)
    yield rig
    rig.off()


def holds(rig: Rig) -> set[str]:
    assert rig.machine is not None
    memory = b"\0".join(rig.machine.memory().values())
    return {name for name, key in SECRETS.items() if key[:HALF] in memory or key[-HALF:] in memory}


def closes(rig: Rig) -> bool:
    rig.pack.close_requested = True
    rig.run(200)
    return rig.pack.contactors_closed


def zeroised(rig: Rig) -> None:
    """Nothing is left, the fuses say so, the pack is off and stays off, and monitoring goes on."""
    assert rig.machine is not None
    assert holds(rig) == set()
    at = OTP_DEVICE_SECRET.offset
    assert bytes(rig.fuses[at : at + OTP_DEVICE_SECRET.size]) == b"\xff" * OTP_DEVICE_SECRET.size
    word = int.from_bytes(rig.fuses[OTP_LIFECYCLE.offset : OTP_LIFECYCLE.offset + 4], "little")
    assert decode_lifecycle(word) is Lifecycle.TAMPERED
    report = rig.machine.reports()[-1]
    assert report.outcome is Outcome.RUNNING
    assert not closes(rig)
    assert rig.machine.reports()[-1] == report  # it runs on: fed, no reset
    assert rig.pack.telemetry().pack_mv > 0


def told_first(rig: Rig) -> None:
    """The boot after the event does nothing before it zeroises."""
    assert rig.machine is not None
    boot = next(report for report in rig.machine.reports() if report.cause == "tamper")
    assert names(boot)[0] == "zeroised"
    assert told(boot)[0][2] is Code.TAMPER


# In each state ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", TamperSource, ids=str)
def test_while_it_runs_with_closed_contactors(rig: Rig, source: TamperSource) -> None:
    rig.boot()
    assert closes(rig)
    assert holds(rig) == {"device secret", "report key", "vault key"}
    assert rig.machine is not None
    rig.machine.tamper(source)
    assert not rig.pack.telemetry().contactors_closed
    told_first(rig)
    zeroised(rig)


def test_parked_without_power(rig: Rig) -> None:
    rig.boot()
    assert rig.machine is not None
    rig.machine.power_off()
    rig.machine.tamper(TamperSource.CASE)
    rig.machine.power_on()
    assert names(rig.machine.reports()[0])[0] == "zeroised"
    zeroised(rig)


def test_in_recovery(rig: Rig) -> None:
    rig.flash[BMS_M33.app.offset + 0x400] ^= 1
    rig.boot()
    assert "update scalar" in holds(rig)
    assert rig.machine is not None
    rig.machine.tamper(TamperSource.VOLTAGE)
    told_first(rig)
    assert rig.machine.outcome is Outcome.RECOVERY
    assert holds(rig) == set()
    assert not rig.pack.contactors_closed


def test_in_the_middle_of_an_update(rig: Rig) -> None:
    rig.boot()
    module = Module(rig)
    module.enter()
    data = encrypt(encryptable(Stage.LOADER), CONTENT_KEY)
    module.done(Request.IMAGE, image(STAGES[Stage.LOADER], len(data), wrapped()))
    for chunk in list(chunks(data))[:4]:
        module.done(Request.DATA, chunk)
    assert {"update scalar", "device secret"} <= holds(rig)
    assert rig.machine is not None
    rig.machine.tamper(TamperSource.CLOCK)
    told_first(rig)
    zeroised(rig)


# In the middle of a boot --------------------------------------------------------------------------

PLACES = [
    ("rom.elf", "ladder_rom"),
    ("rom.elf", "stack_wipe"),
    ("rom.elf", "image_check"),
    ("rom.elf", "boot_count_next"),
    ("rom.elf", "jump"),
    ("loader-1.3.0.elf", "image_check"),
    ("loader-1.3.0.elf", "ladder_loader"),
    ("loader-1.3.0.elf", "jump"),
    ("app-1.3.0.elf", "main"),
]


@cache
def address(elf: str, symbol: str) -> int:
    from cellward.lab.routines import Elf
    from cellward.vbms.packaged import packaged

    return Elf(packaged(elf), elf).symbols[symbol] & ~1


def striking(at: int, strike: Callable[[], None]) -> CpuFactory:
    """Cores that call `strike` when they come to an address."""

    def cpu(
        rom: bytes, memories: Memories, bus: Mapping[int, Peripheral], counter: InstructionCounter | None
    ) -> Cpu:
        made = remembering()(rom, memories, bus, counter)
        made._uc.hook_add(unicorn.UC_HOOK_CODE, lambda *_: strike(), begin=at, end=at)
        return made

    return cpu


@pytest.mark.parametrize(("elf", "symbol"), PLACES, ids=lambda name: name)
def test_in_the_middle_of_a_boot(rig: Rig, elf: str, symbol: str) -> None:
    struck: list[str] = []

    def strike() -> None:
        if not struck:
            struck.append(symbol)
            assert rig.machine is not None
            rig.machine.tamper(TamperSource.TEMPERATURE)

    rig.boot(cpu=striking(address(elf, symbol), strike))
    assert struck == [symbol]
    told_first(rig)
    zeroised(rig)


# Power that goes while it zeroises ----------------------------------------------------------------


@pytest.mark.parametrize("torn", Torn, ids=str)
def test_a_power_cut_while_it_zeroises_saves_no_key(torn: Torn) -> None:
    """Eight words of the secret and the lifecycle: cut at each."""
    for operation in range(1, 10):
        rig = planted(Lifecycle.PRODUCTION)
        rig.stage("a", OLD, confirmed=True)
        rig.flash[BMS_M33.app.offset + 0x400] ^= 1  # no crypto of an app that would run: this is the ROM's
        rig.boot()
        assert rig.machine is not None
        rig.cuts.order(operation, torn)
        rig.machine.tamper(TamperSource.CASE)
        assert rig.machine.reports()[-1].outcome is Outcome.POWER_CUT, operation
        rig.machine.power_on()
        assert holds(rig) == set()
        assert rig.machine.outcome is Outcome.RECOVERY
        assert not rig.pack.contactors_closed
        rig.off()
