"""The peripherals behind the registers of registers.py, one class each, without an emulator in them.

`read` and `write` take the offset of a whole word. A write returns what the core must do about it;
an access that registers.py does not list raises BusFault.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from cellward.core.slots import Stage
from cellward.vbms.otp import WORD, Otp
from cellward.vbms.pack import Pack
from cellward.vbms.registers import (
    CELLS,
    CONTACTOR_CLOSE,
    CONTACTOR_OPEN,
    EXEC_APP_KEY,
    EXEC_LOADER_KEY,
    RESET_KEY,
    TEMPERATURES,
    WATCHDOG_KEY,
    Milestone,
    ResetCause,
    Sys,
    Watchdog,
    Where,
)
from cellward.vbms.registers import Pack as PackRegister

MASK = 0xFFFF_FFFF


class BusFault(Exception):
    """The firmware touched what the memory map does not list."""

    def __init__(self, what: str) -> None:
        super().__init__(what)


class Action(Enum):
    """What the core must do after a write."""

    NONE = auto()
    IDLE = auto()
    REMAP = auto()  # banks, or what may be executed
    RESET = auto()
    FLUSH = auto()  # executable flash changed under translated code
    ANSWER = auto()  # the link has what it waited for


class Peripheral(Protocol):
    def read(self, offset: int) -> int: ...

    def write(self, offset: int, value: int) -> Action: ...

    def reset(self) -> None: ...


class Observer(Protocol):
    """Who hears what the firmware reports through the system registers."""

    def event(self, where: Where, bank: int, status: int, expected: int, found: int) -> None: ...

    def milestone(self, milestone: Milestone) -> None: ...


# EXEC register: the word it takes, and the slot that this opens.
EXECUTE = {Sys.EXEC_LOADER: (EXEC_LOADER_KEY, Stage.LOADER), Sys.EXEC_APP: (EXEC_APP_KEY, Stage.APP)}


class SystemControl:
    """`executable`: the slots of the active bank that the core may fetch from."""

    def __init__(self, otp: Otp, observer: Observer) -> None:
        self._otp = otp
        self._observer = observer
        self.retain = 0
        self.cause = ResetCause.POWER
        self.active = 0
        self.executable: frozenset[Stage] = frozenset()
        self.locked = False
        self._event = dict.fromkeys((Sys.EVENT_WHAT, Sys.EVENT_STATUS, Sys.EVENT_EXPECTED), 0)

    def reset(self) -> None:
        """RETAIN and the cause stay: they are what the reset is told by."""
        self.active = 0
        self.executable = frozenset()
        self.locked = False
        self._event = dict.fromkeys(self._event, 0)

    def read(self, offset: int) -> int:
        readable = {
            Sys.RETAIN: self.retain,
            Sys.RESET_CAUSE: self.cause,
            Sys.REMAP: self.active,
            Sys.LOCK: int(self.locked),
            Sys.BANK: self.active,
        }
        if offset not in readable:
            raise BusFault(f"read of system register 0x{offset:x}")
        return readable[Sys(offset)]

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case Sys.RESET:
                return Action.RESET if value == RESET_KEY else Action.NONE
            case Sys.IDLE:
                return Action.IDLE
            case Sys.REMAP:
                return self._remap(value)
            case Sys.EXEC_LOADER | Sys.EXEC_APP:
                return self._permit(Sys(offset), value)
            case Sys.RETAIN:
                self.retain = value
            case Sys.LOCK:
                self._lock(value)
            case Sys.EVENT_WHAT | Sys.EVENT_STATUS | Sys.EVENT_EXPECTED:
                self._event[Sys(offset)] = value
            case Sys.EVENT_FOUND:
                self._record(value)
            case Sys.MILESTONE:
                self._pass(value)
            case _:
                raise BusFault(f"write to system register 0x{offset:x}")
        return Action.NONE

    def _remap(self, value: int) -> Action:
        if value not in (0, 1):
            raise BusFault(f"remap to bank {value}")
        if self.locked or (value == self.active and not self.executable):
            return Action.NONE
        self.active = value
        self.executable = frozenset()
        return Action.REMAP

    def _permit(self, register: Sys, value: int) -> Action:
        before = self.executable
        key, stage = EXECUTE[register]
        self.executable = before | {stage} if value == key else frozenset()
        return Action.NONE if self.executable == before else Action.REMAP

    def _lock(self, value: int) -> None:
        if value == 1:
            self.locked = True
            self._otp.locked = True

    def _record(self, found: int) -> None:
        what = self._event[Sys.EVENT_WHAT]
        if what >> 8 not in (Where.ROM, Where.LOADER, Where.APP) or what & 0xFF not in (0, 1):
            raise BusFault(f"event of 0x{what:x}")
        self._observer.event(
            Where(what >> 8),
            what & 0xFF,
            self._event[Sys.EVENT_STATUS],
            self._event[Sys.EVENT_EXPECTED],
            found,
        )

    def _pass(self, value: int) -> None:
        if value not in list(Milestone):
            raise BusFault(f"milestone {value}")
        self._observer.milestone(Milestone(value))


class WatchdogTimer:
    """Counts instructions. Once started it can be fed and tightened, never stopped or widened."""

    def __init__(self) -> None:
        self._load = 0
        self.remaining: int | None = None

    def reset(self) -> None:
        self._load = 0
        self.remaining = None

    def read(self, offset: int) -> int:
        if offset == Watchdog.LOAD:
            return self._load
        raise BusFault(f"read of watchdog register 0x{offset:x}")

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case Watchdog.LOAD:
                if value and (not self._load or value <= self._load):
                    self._load = self.remaining = value
            case Watchdog.FEED:
                if self._load and value == WATCHDOG_KEY:
                    self.remaining = self._load
            case _:
                raise BusFault(f"write to watchdog register 0x{offset:x}")
        return Action.NONE

    def spend(self, instructions: int) -> None:
        if self.remaining is not None:
            self.remaining = max(self.remaining - instructions, 0)

    @property
    def expired(self) -> bool:
        return self.remaining == 0


_CELL_OFFSETS = range(PackRegister.CELL_MV, PackRegister.CELL_MV + CELLS * WORD, WORD)
_SENSOR_OFFSETS = range(PackRegister.TEMPERATURE_DC, PackRegister.TEMPERATURE_DC + TEMPERATURES * WORD, WORD)


class PackInterface:
    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def reset(self) -> None:
        self._pack.reset()

    def read(self, offset: int) -> int:
        if offset in _CELL_OFFSETS:
            return self._pack.measured_mv(_CELL_OFFSETS.index(offset)) & MASK
        if offset in _SENSOR_OFFSETS:
            return self._pack.temperature_dc(_SENSOR_OFFSETS.index(offset)) & MASK
        if offset in self._pack.limits:
            return self._pack.limits[PackRegister(offset)]
        return self._scalar(offset) & MASK

    def _scalar(self, offset: int) -> int:
        pack = self._pack
        match offset:
            case PackRegister.FRONT_END_ID:
                return pack.front_end_id
            case PackRegister.CELL_COUNT:
                return CELLS
            case PackRegister.PACK_MV:
                return pack.pack_mv
            case PackRegister.CURRENT_MA:
                return pack.current_ma
            case PackRegister.CONTACTOR_STATE:
                return int(pack.contactors_closed)
            case PackRegister.CLOSE_REQUEST:
                return int(pack.close_requested)
            case PackRegister.TICK:
                return pack.at_ms
            case _:
                raise BusFault(f"read of pack register 0x{offset:x}")

    def write(self, offset: int, value: int) -> Action:
        match offset:
            case PackRegister.CONTACTOR_CONTROL:
                if value in (CONTACTOR_CLOSE, CONTACTOR_OPEN):
                    self._pack.command(closed=value == CONTACTOR_CLOSE)
            case _ if offset in self._pack.limits:
                self._pack.set_limit(PackRegister(offset), value)
            case _:
                raise BusFault(f"write to pack register 0x{offset:x}")
        return Action.NONE


class RandomSource:
    """One word of entropy at offset 0."""

    def __init__(self, entropy: Callable[[], int]) -> None:
        self._entropy = entropy

    def reset(self) -> None:
        """Nothing of its own."""

    def read(self, offset: int) -> int:
        if offset:
            raise BusFault(f"read of random register 0x{offset:x}")
        return self._entropy() & MASK

    def write(self, offset: int, value: int) -> Action:
        raise BusFault(f"write to random register 0x{offset:x}")
