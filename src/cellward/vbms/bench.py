"""One virtual module on a bench: the machine and its state file behind the port."""

import secrets
from collections.abc import Callable
from pathlib import Path

from cellward.core.errors import Code, FormatRefused, ModuleRefused, Unavailable
from cellward.core.slots import (
    BANKS,
    OTP_APP_CLASS,
    OTP_DEVELOPMENT,
    OTP_LOADER_CLASS,
    OTP_ROOT_QUORUM,
    OTP_VENDOR_ID,
    TRAILER_SIZE,
    Lifecycle,
)
from cellward.ports.module import (
    MAX_ADVANCE_MS,
    BankStatus,
    BootReport,
    Conditions,
    ModuleStatus,
    Outcome,
    TamperSource,
    Telemetry,
    Torn,
)
from cellward.vbms import registers
from cellward.vbms.cpu import Cpu
from cellward.vbms.cut import Cuts, PowerCut
from cellward.vbms.machine import CpuFactory, Machine
from cellward.vbms.nor import BANK_NAMES, Area, Nor
from cellward.vbms.otp import Otp
from cellward.vbms.packaged import ROM, packaged
from cellward.vbms.state import StateFile


def random_word() -> int:
    return secrets.randbits(32)


class VirtualModule:
    """A BenchModule in this process. `rom` None takes the packaged one.

    The module has no power until `power_on`. Raises what StateFile raises, and Unavailable
    (storage.missing) where no firmware has been built.
    """

    def __init__(
        self,
        path: Path,
        rom: bytes | None = None,
        entropy: Callable[[], int] = random_word,
        *,
        exact: bool = False,
        cpu: CpuFactory = Cpu,
        cuts: Cuts | None = None,
    ) -> None:
        rom = packaged(ROM) if rom is None else rom
        self._state = StateFile(path)
        hardware = self._state.label.hardware
        self._cuts = Cuts() if cuts is None else cuts
        self._nor = Nor(hardware, self._state.flash, self._cuts)
        self._otp = Otp(self._state.fuses, self._cuts)
        self.pack = self._state.load_pack()
        self.machine = Machine(
            rom,
            hardware,
            self._state.flash,
            self._nor,
            self._otp,
            self.pack,
            entropy,
            exact=exact,
            latch=self._state.latch,
            cpu=cpu,
        )

    def close(self) -> None:
        self.machine.close()
        self.save()
        self._state.close()

    def save(self) -> None:
        """Carry the pack over into the state file; flash and fuses are there already."""
        self._state.save_pack(self.pack)

    def status(self) -> ModuleStatus:
        label, otp = self._state.label, self._otp
        return ModuleStatus(
            # Of a blank module the label counts: its fuses may have been cut halfway.
            serial=label.serial if otp.lifecycle is Lifecycle.BLANK else otp.serial or label.serial,
            hardware=label.hardware.name,
            lifecycle=otp.lifecycle,
            outcome=self.machine.outcome,
            active_bank=BANKS[self.machine.active_bank],
            counter=otp.counter,
            slot_keys=otp.slot_keys,
            revoked=otp.revoked,
            vendor_id=otp.public(OTP_VENDOR_ID),
            loader_class=otp.public(OTP_LOADER_CLASS),
            app_class=otp.public(OTP_APP_CLASS),
            banks=tuple(
                BankStatus(name, self._nor.read(index, label.hardware.bank_size - TRAILER_SIZE, TRAILER_SIZE))
                for index, name in enumerate(BANKS)
            ),
            operations=self._cuts.operations,
            development=int.from_bytes(otp.public(OTP_DEVELOPMENT), "little"),
            debug_locked=otp.debug_locked,
            root_quorum=otp.public(OTP_ROOT_QUORUM),
        )

    def reports(self) -> tuple[BootReport, ...]:
        return self.machine.reports()

    def telemetry(self) -> Telemetry:
        return self.pack.telemetry()

    def read(self, bank: str, offset: int, length: int) -> bytes:
        self._check_open()
        return self._nor.read(_index(bank), offset, length)

    def erase_page(self, bank: str, offset: int) -> None:
        self._check_open()
        self._operate(lambda: self._nor.erase(_index(bank), offset, self._locks()))

    def program(self, bank: str, offset: int, data: bytes) -> None:
        self._check_open()
        self._operate(lambda: self._nor.program(_index(bank), offset, data, self._locks()))

    def exchange(self, request: bytes) -> bytes:
        self._check_power()
        return self.machine.exchange(request)

    def burn(self, offset: int, data: bytes) -> None:
        self._operate(lambda: self._otp.write(offset, data))

    def reset(self) -> tuple[BootReport, ...]:
        self._check_power()
        self.machine.reset()
        return self.machine.reports()

    def power_on(self) -> tuple[BootReport, ...]:
        self.machine.power_on()
        return self.machine.reports()

    def power_off(self) -> None:
        self.machine.power_off()

    def set_close_request(self, wanted: bool) -> None:
        self._check_power()
        self.pack.close_requested = wanted

    def set_conditions(self, conditions: Conditions) -> None:
        self.pack.set_conditions(conditions)
        self.save()

    def advance(self, milliseconds: int) -> None:
        if not 0 <= milliseconds <= MAX_ADVANCE_MS:
            raise FormatRefused(
                Code.REQUEST_FORMAT,
                "time to pass",
                expected=f"0 to {MAX_ADVANCE_MS} ms",
                found=f"{milliseconds}",
            )
        self.machine.run(milliseconds)

    def cut_power_at(self, operation: int, torn: Torn) -> None:
        self._cuts.order(operation, torn)

    def tamper(self, source: TamperSource) -> None:
        self.machine.tamper(registers.TamperSource[source.name])

    def attach_debugger(self) -> None:
        self._check_power()
        if self._otp.debug_locked:
            self.tamper(TamperSource.DEBUG)
            raise ModuleRefused(
                Code.TAMPER, "debug port", expected="a debug lock that is not burned", found="a burned one"
            )

    def flip_bit(self, bank: str, offset: int, bit: int) -> None:
        self.machine.flip_bit(_index(bank), offset, bit)

    def memory_image(self) -> bytes:
        """RAM, registers, fuses (the device secret too) and all flash, to be searched for a key."""
        return b"".join(self.machine.memory().values())

    def _operate(self, operation: Callable[[], None]) -> None:
        """One programmer's command, which needs power and can lose it."""
        self._check_power()
        try:
            operation()
        except PowerCut:
            self.machine.power_off(Outcome.POWER_CUT)
            raise

    def _check_power(self) -> None:
        if not self.machine.powered:
            raise Unavailable(
                Code.MODULE_ABSENT,
                f"module {self._state.label.serial}",
                expected="a module with power",
                found="no power",
                advice="switch it on",
            )

    def _check_open(self) -> None:
        """The way into a closed module is the update link."""
        if self._otp.lifecycle.closed:
            raise ModuleRefused(
                Code.FLASH_LOCKED,
                f"module {self._state.label.serial}",
                expected="a module that is not closed",
                found=self._otp.lifecycle,
            )

    def _locks(self) -> tuple[Area, ...]:
        """The bank that app or loader run from is not for the programmer."""
        if self.machine.outcome not in (Outcome.RUNNING, Outcome.UPDATING):
            return ()
        return (Area(self.machine.active_bank, 0, self._state.label.hardware.bank_size),)


def _index(bank: str) -> int:
    if bank not in BANK_NAMES:
        raise ModuleRefused(
            Code.FLASH_RANGE, f"bank {bank!r}", expected=f"one of {', '.join(BANK_NAMES)}", found=repr(bank)
        )
    return BANK_NAMES.index(bank)
