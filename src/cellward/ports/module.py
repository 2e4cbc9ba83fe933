"""A battery module as its programmer sees it.

`Module` is what a pack controller may do; `BenchModule` adds what only a bench or a plant can:
power, fuses, the physical pack, power cuts.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cellward.core.banks import State, state_of
from cellward.core.errors import CODE_OF_STATUS, Code
from cellward.core.slots import Lifecycle, decode_trailer

MAX_ADVANCE_MS = 600_000


class Outcome(StrEnum):
    """How one boot ended."""

    RUNNING = "running"  # the app runs and is in charge of the contactors
    RECOVERY = "recovery"  # no bank is good; the ROM waits
    UPDATING = "updating"  # the loader's update engine waits for the link
    RESET = "reset"  # the module reset itself; the next report follows from this one
    HANG = "hang"  # instruction budget spent, or resets without end
    POWER_CUT = "power cut"
    OFF = "off"


class Torn(StrEnum):
    """What a flash or fuse operation leaves behind when the power goes in the middle of it."""

    NONE = "none"  # nothing happened yet
    HALF = "half"  # the first half is done
    GARBAGE = "garbage"  # any of the bits that were to change


class TamperSource(StrEnum):
    """What a sensor of the module noticed."""

    CASE = "case"
    VOLTAGE = "voltage"
    CLOCK = "clock"
    TEMPERATURE = "temperature"
    DEBUG = "debug"


@dataclass(frozen=True)
class BootEvent:
    """One verdict of the boot chain, in the words it reported."""

    where: str  # rom, loader, app, hardware
    bank: str
    status: int
    expected: int
    found: int
    at_ms: int

    @property
    def code(self) -> Code | None:
        """The stable name of the status word; None for one this release does not know."""
        return CODE_OF_STATUS.get(self.status)


@dataclass(frozen=True)
class Milestone:
    """A point the firmware passed: its name, milliseconds since power-on, and instructions since
    the reset (exact when the module counts them, otherwise to the slice)."""

    name: str
    at_ms: int
    instructions: int


@dataclass(frozen=True)
class BootReport:
    """From one reset to the next, or until the module settled."""

    cause: str  # power, software, watchdog, pin, tamper
    bank: str  # the active bank when the boot ended
    outcome: Outcome
    counter: int  # the security counter when the boot ended
    contactors_closed: bool
    milestones: tuple[Milestone, ...]
    events: tuple[BootEvent, ...]

    def reached(self, name: str) -> bool:
        return any(milestone.name == name for milestone in self.milestones)


@dataclass(frozen=True)
class BankStatus:
    name: str
    trailer: bytes  # the last TRAILER_SIZE bytes of the bank, raw

    @property
    def state(self) -> State:
        return state_of(decode_trailer(self.trailer))


@dataclass(frozen=True)
class ModuleStatus:
    """Identity and state. No secret is in it."""

    serial: str
    hardware: str
    lifecycle: Lifecycle
    outcome: Outcome  # of the last boot; OFF without power
    active_bank: str
    counter: int
    slot_keys: tuple[bytes, ...]  # a hash per slot, to the last burned one; zeros: not burned
    revoked: int  # bit n: slot key n is revoked
    vendor_id: bytes
    loader_class: bytes
    app_class: bytes
    banks: tuple[BankStatus, ...]
    operations: int  # flash and fuse operations since the state was opened
    development: int = 0  # bit n: slot key n is a development key
    debug_locked: bool = False
    root_quorum: bytes = bytes(32)  # whose revocations are taken; zeros: nobody's

    @property
    def barred(self) -> int:
        """Bit n: slot n signs nothing, revoked or, in a closed module, a development key's."""
        return self.revoked | self.development if self.lifecycle.closed else self.revoked

    def bank(self, name: str) -> BankStatus:
        return next(bank for bank in self.banks if bank.name == name)


@dataclass(frozen=True)
class Telemetry:
    """What the pack measures; millivolts, milliamperes (positive discharges), tenths of a degree."""

    at_ms: int
    cells_mv: tuple[int, ...]
    temperatures_dc: tuple[int, ...]
    pack_mv: int
    current_ma: int
    soc_permille: int
    supply_mv: int  # the 12 V supply of the electronics
    contactors_closed: bool  # read back from the auxiliary contacts
    close_requested: bool
    front_end_answers: bool
    isolation_fault: bool
    interlock_open: bool
    balancing: bool


@dataclass(frozen=True)
class Conditions:
    """The pack's surroundings and its injected faults. A `*_cell`, `*_sensor` of -1: none."""

    load_ma: int = 0  # drawn while the contactors are closed; negative charges
    ambient_dc: int = 250
    supply_mv: int = 12_600
    soc_permille: int = -1  # sets the state of charge once; -1 leaves it
    welded_contactor: bool = False
    front_end_dead: bool = False
    limits_stuck: bool = False
    isolation_fault: bool = False
    interlock_open: bool = False
    faulty_cell: int = -1
    faulty_cell_mv: int = 0
    faulty_sensor: int = -1
    faulty_sensor_dc: int = 0
    pack_sense_offset_mv: int = 0


class Module(Protocol):
    """A module with its two banks.

    Every method raises Unavailable (module.absent, module.busy) when the module cannot be reached,
    and ModuleRefused for what flash and fuses refuse. `bank` is one of core.slots.BANKS, or
    DATA_BANK_NAME for the data flash; offsets are bytes from the start of the bank. Once the
    lifecycle is closed, read, erase and program are refused (flash.locked): the way in is `exchange`.
    """

    def status(self) -> ModuleStatus: ...

    def reports(self) -> tuple[BootReport, ...]:
        """The boots since the last power-on or reset that was asked for, oldest first."""
        ...

    def telemetry(self) -> Telemetry: ...

    def read(self, bank: str, offset: int, length: int) -> bytes:
        """Raises ModuleRefused (flash.range, flash.locked)."""
        ...

    def erase_page(self, bank: str, offset: int) -> None:
        """Erase the page that starts at `offset`.

        Raises ModuleRefused: flash.alignment, flash.range, flash.locked (the running bank),
        power.cut.
        """
        ...

    def program(self, bank: str, offset: int, data: bytes) -> None:
        """Program phrases of 8 bytes over erased flash, in order.

        Raises ModuleRefused: flash.unerased, flash.alignment, flash.range, flash.locked, power.cut.
        What stood before the failed phrase is written.
        """
        ...

    def reset(self) -> tuple[BootReport, ...]:
        """Reset by the pin and wait until the firmware has settled, through its own resets."""
        ...

    def set_close_request(self, wanted: bool) -> None:
        """Ask the app to close (or open) the contactors."""
        ...

    def exchange(self, request: bytes) -> bytes:
        """The firmware's answer to one frame of the update link (docs/formats/update-link.md).

        What follows the answer, such as a reset, has settled when this returns. Raises FormatRefused
        (link.frame) for a request of no or too many bytes, Unavailable (link.silent) where no answer
        comes, ModuleRefused (power.cut).
        """
        ...


class BenchModule(Module, Protocol):
    """A module on a bench, with hands on its power, its fuses and its pack."""

    def power_on(self) -> tuple[BootReport, ...]:
        """Like reset, from no power. Without effect on a module that has power."""
        ...

    def power_off(self) -> None: ...

    def burn(self, offset: int, data: bytes) -> None:
        """Burn fuses from `offset` of the OTP, in words of 4 bytes.

        A blank module takes all; a provisioned one lifecycle, debug lock, revocation and development
        bits; a closed one none. The lifecycle only goes forward.
        Raises ModuleRefused: otp.locked, otp.one_way, flash.range, flash.alignment, power.cut.
        """
        ...

    def set_conditions(self, conditions: Conditions) -> None: ...

    def advance(self, milliseconds: int) -> None:
        """Let the module run on for this long, at once.

        Raises FormatRefused (request.format) outside 0 to MAX_ADVANCE_MS.
        """
        ...

    def cut_power_at(self, operation: int, torn: Torn) -> None:
        """Cut the power in the `operation`-th flash or fuse operation from now, counted from 1;
        0 takes the order back."""
        ...

    def tamper(self, source: TamperSource) -> None:
        """Let a sensor see this. The module resets and settles; without power, it is told at the
        next power-on: the latch has a battery of its own."""
        ...

    def attach_debugger(self) -> None:
        """Connect to the debug port of a module that has power.

        Raises ModuleRefused (boot.tamper) where the debug lock is burned: that was a tamper event.
        """
        ...

    def flip_bit(self, bank: str, offset: int, bit: int) -> None:
        """Physical damage to one cell of any flash, in any lifecycle, with or without power.

        Raises ModuleRefused (flash.range).
        """
        ...
