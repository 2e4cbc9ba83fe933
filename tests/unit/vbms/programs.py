"""A machine on the bench, and the pieces of firmware that its tests are put together from."""

from cellward.core.errors import Code
from cellward.core.slots import (
    BMS_M33,
    ERASED,
    OTP_SIZE,
)
from cellward.ports.module import BootEvent, BootReport, Outcome
from cellward.vbms.cpu import Cpu
from cellward.vbms.cut import Cuts
from cellward.vbms.machine import CpuFactory, Machine
from cellward.vbms.nor import Nor, flash_size
from cellward.vbms.otp import Otp
from cellward.vbms.pack import Pack
from cellward.vbms.registers import (
    EXEC_APP_KEY,
    EXEC_LOADER_KEY,
    FLASH_BASE,
    FLASH_KEY,
    OTP_CTRL_BASE,
    OTP_KEY,
    RESET_KEY,
    SYS_BASE,
    Flash,
    FlashCommand,
    Milestone,
    OtpCtrl,
    Sys,
)
from cellward.vbms.sensors import LATCH_SIZE
from tests.unit.vbms.thumb import milestone, poke, rom, tell

RUNNING = milestone(Milestone.RUNNING)
EXEC_LOADER = poke(SYS_BASE + Sys.EXEC_LOADER, EXEC_LOADER_KEY)
EXEC_APP = poke(SYS_BASE + Sys.EXEC_APP, EXEC_APP_KEY)
RESET = poke(SYS_BASE + Sys.RESET, RESET_KEY)
ENTROPY = 0x600D_5EED


class Bench:
    """Memories that outlive a machine, and a machine for one ROM."""

    def __init__(self) -> None:
        self.flash = bytearray([ERASED]) * flash_size(BMS_M33)
        self.fuses = bytearray(OTP_SIZE)
        self.latch = bytearray(LATCH_SIZE)
        self.cuts = Cuts()
        self.pack = Pack()
        self.machine: Machine | None = None

    def boot(self, *code: bytes, exact: bool = False, cpu: CpuFactory = Cpu) -> tuple[BootReport, ...]:
        self.close()
        self.machine = Machine(
            rom(*code),
            BMS_M33,
            memoryview(self.flash),
            Nor(BMS_M33, memoryview(self.flash), self.cuts),
            Otp(memoryview(self.fuses), self.cuts),
            self.pack,
            lambda: ENTROPY,
            exact=exact,
            latch=memoryview(self.latch),
            cpu=cpu,
        )
        self.machine.power_on()
        return self.machine.reports()

    @property
    def running(self) -> Machine:
        assert self.machine is not None
        return self.machine

    def close(self) -> None:
        if self.machine is not None:
            self.machine.close()
            self.machine = None


def command(command: FlashCommand, bank: int, offset: int, low: int = 0, high: int = 0) -> bytes:
    return b"".join(
        (
            poke(FLASH_BASE + Flash.UNLOCK, FLASH_KEY),
            poke(FLASH_BASE + Flash.BANK, bank),
            poke(FLASH_BASE + Flash.OFFSET, offset),
            poke(FLASH_BASE + Flash.DATA0, low),
            poke(FLASH_BASE + Flash.DATA1, high),
            poke(FLASH_BASE + Flash.COMMAND, command),
        )
    )


FLASH_STATUS = tell(FLASH_BASE + Flash.STATUS)
FUSE_STATUS = tell(OTP_CTRL_BASE + OtpCtrl.STATUS)


def burn(offset: int, bits: int) -> bytes:
    return (
        poke(OTP_CTRL_BASE + OtpCtrl.OFFSET, offset)
        + poke(OTP_CTRL_BASE + OtpCtrl.UNLOCK, OTP_KEY)
        + poke(OTP_CTRL_BASE + OtpCtrl.BURN, bits)
    )


def found(report: BootReport) -> list[int]:
    return [event.found for event in report.events]


def faulted(reports: tuple[BootReport, ...]) -> BootEvent:
    """The one fault of the first boot; the core was reset for it, again and again."""
    assert reports[0].outcome is Outcome.RESET
    assert reports[1].cause == "watchdog"
    (event,) = reports[0].events
    assert (event.where, event.code) == ("hardware", Code.MODULE_FAULT)
    return event
