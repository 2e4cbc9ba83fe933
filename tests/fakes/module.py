"""A battery module in memory that keeps every promise of the port, without a processor.

Flash and fuses are honest hardware; the boot follows core.banks with images that decode, hold their
digest and do not go below the counter. `selftest_passes` decides the trial of a pending bank;
`firmware` is its end of the update link, `silent` one that does not answer.
"""

from dataclasses import dataclass, field, replace

from cellward.core.banks import TRANSITIONS, Candidate, Event, State, choose, state_of
from cellward.core.errors import STATUS_WORDS, CellwardError, Code, FormatRefused, ModuleRefused, Unavailable
from cellward.core.image import Image, decode_slot
from cellward.core.slots import (
    BANKS,
    BMS_M33,
    COPY_DONE_FROM_END,
    DATA_BANK_NAME,
    DATA_PAGE_SIZE,
    DATA_SIZE,
    ERASED,
    IMAGE_OK_FROM_END,
    OTP_COUNTER,
    OTP_DEBUG_LOCK,
    OTP_DEVELOPMENT,
    OTP_DEVICE_SECRET,
    OTP_LIFECYCLE,
    OTP_REVOKED,
    OTP_ROOT_QUORUM,
    OTP_SERIAL,
    OTP_SIZE,
    OTP_SLOT_KEYS,
    TRAILER_SIZE,
    WRITE_SIZE,
    Fuse,
    Hardware,
    Lifecycle,
    Stage,
    decode_lifecycle,
    decode_trailer,
    flag_phrase,
)
from cellward.ports.module import (
    MAX_ADVANCE_MS,
    BankStatus,
    BootEvent,
    BootReport,
    Conditions,
    Milestone,
    ModuleStatus,
    Outcome,
    TamperSource,
    Telemetry,
    Torn,
)
from tests.fakes.firmware import WHERE, FakeFirmware

HEALTHY = Telemetry(
    at_ms=0,
    cells_mv=(3700,) * 12,
    temperatures_dc=(250,) * 4,
    pack_mv=44_400,
    current_ma=0,
    soc_permille=500,
    supply_mv=12_600,
    contactors_closed=False,
    close_requested=False,
    front_end_answers=True,
    isolation_fault=False,
    interlock_open=False,
    balancing=False,
)
MAX_REQUEST = 4096
SECRET_START = OTP_DEVICE_SECRET.offset
SECRET_END = SECRET_START + OTP_DEVICE_SECRET.size
LATE_FUSES = (OTP_LIFECYCLE, OTP_DEBUG_LOCK, OTP_REVOKED, OTP_DEVELOPMENT)


@dataclass
class FakeModule:
    hardware: Hardware = BMS_M33
    serial: str = "M0001"
    counter: int = 0
    powered: bool = True
    selftest_passes: bool = True
    outcome: Outcome = Outcome.RECOVERY
    active: int = 0
    operations: int = 0
    cut_at: int = 0
    measured: Telemetry = HEALTHY
    boots: list[BootReport] = field(default_factory=list)
    noted: list[BootEvent] = field(default_factory=list)
    fuses: bytearray = field(default_factory=lambda: bytearray(OTP_SIZE))
    banks: list[bytearray] = field(default_factory=list)
    data_flash: bytearray = field(default_factory=lambda: bytearray([ERASED]) * DATA_SIZE)
    silent: bool = False
    boot_count: int = 0
    tampered_by: set[TamperSource] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.banks = self.banks or [bytearray([ERASED]) * self.hardware.bank_size for _ in BANKS]
        self.firmware = FakeFirmware(self)

    # --- Module ---

    def status(self) -> ModuleStatus:
        fuses = self._fuse(OTP_SLOT_KEYS)
        keys = [fuses[at : at + 32] for at in range(0, OTP_SLOT_KEYS.size, 32)]
        burned_slots = max((slot + 1 for slot, key in enumerate(keys) if any(key)), default=0)
        burned = b"" if self._lifecycle() is Lifecycle.BLANK else self._fuse(OTP_SERIAL)
        return ModuleStatus(
            serial=burned.rstrip(b"\0").decode() or self.serial,
            hardware=self.hardware.name,
            lifecycle=self._lifecycle(),
            outcome=self.outcome,
            active_bank=BANKS[self.active],
            counter=self.counter,
            slot_keys=tuple(keys[:burned_slots]),
            revoked=int.from_bytes(self._fuse(OTP_REVOKED), "little"),
            vendor_id=self.hardware.vendor_id,
            loader_class=self.hardware.class_id(Stage.LOADER),
            app_class=self.hardware.class_id(Stage.APP),
            banks=tuple(
                BankStatus(name, bytes(self.banks[i][-TRAILER_SIZE:])) for i, name in enumerate(BANKS)
            ),
            operations=self.operations,
            development=int.from_bytes(self._fuse(OTP_DEVELOPMENT), "little"),
            debug_locked=any(self._fuse(OTP_DEBUG_LOCK)),
            root_quorum=self._fuse(OTP_ROOT_QUORUM),
        )

    def reports(self) -> tuple[BootReport, ...]:
        return tuple(self.boots)

    def telemetry(self) -> Telemetry:
        return self.measured

    def read(self, bank: str, offset: int, length: int) -> bytes:
        self._check_open()
        self._check_range(bank, offset, length)
        return bytes(self._flash(bank)[offset : offset + length])

    def erase_page(self, bank: str, offset: int) -> None:
        size = DATA_PAGE_SIZE if bank == DATA_BANK_NAME else self.hardware.page_size
        self._check_write(bank, offset, size, size)
        self._operate()
        self._flash(bank)[offset : offset + size] = bytes([ERASED]) * size

    def program(self, bank: str, offset: int, data: bytes) -> None:
        self._check_write(bank, offset, len(data), WRITE_SIZE)
        self._program(self._flash(bank), offset, data)

    def reset(self) -> tuple[BootReport, ...]:
        self._check_power()
        self.boots = []
        return self._boot("pin")

    def set_close_request(self, wanted: bool) -> None:
        self._check_power()
        closed = wanted and self.outcome is Outcome.RUNNING
        self.measured = replace(self.measured, close_requested=wanted, contactors_closed=closed)

    def exchange(self, request: bytes) -> bytes:
        self._check_power()
        if not 0 < len(request) <= MAX_REQUEST:
            raise FormatRefused(Code.LINK_FRAME, "request", found=f"{len(request)} bytes")
        if self.silent or self.outcome not in WHERE:
            raise Unavailable(Code.LINK_SILENT, "module")
        return self.firmware.answer(request)

    # --- BenchModule ---

    def power_on(self) -> tuple[BootReport, ...]:
        if self.powered:
            return self.reports()
        self.powered = True
        self.boots = []
        return self._boot("power")

    def power_off(self) -> None:
        if self.powered:
            self._lose_power(Outcome.OFF)

    def burn(self, offset: int, data: bytes) -> None:
        self._check_power()
        if offset < 0 or offset + len(data) > OTP_SIZE:
            raise ModuleRefused(Code.FLASH_RANGE, "fuses")
        if offset % 4 or len(data) % 4 or not data:
            raise ModuleRefused(Code.FLASH_ALIGNMENT, "fuses")
        self._check_fuses(offset, data)
        for at in range(offset, offset + len(data), 4):
            word, held = data[at - offset : at - offset + 4], self.fuses[at : at + 4]
            if word != held:
                self._operate()
                self.fuses[at : at + 4] = bytes(a | b for a, b in zip(held, word, strict=True))
        self.counter = max(self.counter, int.from_bytes(self._fuse(OTP_COUNTER), "little").bit_count())

    def set_conditions(self, conditions: Conditions) -> None:
        self.measured = replace(
            self.measured,
            supply_mv=conditions.supply_mv,
            front_end_answers=not conditions.front_end_dead,
            contactors_closed=conditions.welded_contactor,
            isolation_fault=conditions.isolation_fault,
            interlock_open=conditions.interlock_open,
        )

    def advance(self, milliseconds: int) -> None:
        if not 0 <= milliseconds <= MAX_ADVANCE_MS:
            raise FormatRefused(Code.REQUEST_FORMAT, "time to pass")
        self.measured = replace(self.measured, at_ms=self.measured.at_ms + milliseconds)

    def cut_power_at(self, operation: int, torn: Torn) -> None:
        self.cut_at = self.operations + operation if operation else 0

    def tamper(self, source: TamperSource) -> None:
        """The reset alone: what the firmware does about it is the firmware's."""
        self.tampered_by.add(source)
        if self.powered:
            self._boot("tamper")

    def attach_debugger(self) -> None:
        self._check_power()
        if any(self._fuse(OTP_DEBUG_LOCK)):
            self.tamper(TamperSource.DEBUG)
            raise ModuleRefused(Code.TAMPER, "debug port")

    def flip_bit(self, bank: str, offset: int, bit: int) -> None:
        self._check_range(bank, offset, 1)
        if not 0 <= bit < 8:
            raise ModuleRefused(Code.FLASH_RANGE, f"bit {bit}")
        self._flash(bank)[offset] ^= 1 << bit

    # --- the inside ---

    def _fuse(self, fuse: Fuse) -> bytes:
        return bytes(self.fuses[fuse.offset : fuse.offset + fuse.size])

    def _lifecycle(self) -> Lifecycle:
        return decode_lifecycle(int.from_bytes(self._fuse(OTP_LIFECYCLE), "little"))

    def _check_fuses(self, offset: int, data: bytes) -> None:
        states, lifecycle = list(Lifecycle), self._lifecycle()
        late = all(
            any(fuse.offset <= at < fuse.offset + fuse.size for fuse in LATE_FUSES)
            for at in range(offset, offset + len(data))
        )
        if lifecycle.closed or (lifecycle is not Lifecycle.BLANK and not late):
            raise ModuleRefused(Code.OTP_LOCKED, "fuses", found=lifecycle)
        for at in range(offset, offset + len(data), 4):
            word = int.from_bytes(data[at - offset : at - offset + 4], "little")
            held = int.from_bytes(self.fuses[at : at + 4], "little")
            back = held & ~word != 0 and not SECRET_START <= at < SECRET_END
            if at == OTP_LIFECYCLE.offset:
                back = states.index(decode_lifecycle(word)) < states.index(lifecycle)
            if back:
                raise ModuleRefused(Code.OTP_ONE_WAY, "fuses")

    def _check_open(self) -> None:
        if self._lifecycle().closed:
            raise ModuleRefused(
                Code.FLASH_LOCKED,
                "module",
                expected="a module that is not closed",
                found=self._lifecycle(),
            )

    # --- what only the firmware can do ---

    def erase_inside(self, bank: int, offset: int) -> None:
        self._operate()
        size = self.hardware.page_size
        self.banks[bank][offset : offset + size] = bytes([ERASED]) * size

    def program_inside(self, bank: int, offset: int, data: bytes) -> None:
        self._program(self.banks[bank], offset, data)

    def erase_data(self, offset: int) -> None:
        self._operate()
        self.data_flash[offset : offset + DATA_PAGE_SIZE] = bytes([ERASED]) * DATA_PAGE_SIZE

    def program_data(self, offset: int, data: bytes) -> None:
        self._program(self.data_flash, offset, data)

    def revoke_slot(self, slot: int) -> None:
        self._operate()
        self.fuses[OTP_REVOKED.offset] |= 1 << slot

    def note_event(self, where: str, code: Code) -> None:
        self.noted.append(BootEvent(where, BANKS[self.active], STATUS_WORDS[code], 0, 0, 0))

    def restart(self) -> None:
        """The firmware resets itself: the loader's engine where the app asked for it."""
        self._boot("software")

    def _program(self, target: bytearray, offset: int, data: bytes) -> None:
        for at in range(offset, offset + len(data), WRITE_SIZE):
            if any(byte != ERASED for byte in target[at : at + WRITE_SIZE]):
                raise ModuleRefused(Code.FLASH_UNERASED, "flash")
            self._operate()
            target[at : at + WRITE_SIZE] = data[at - offset : at - offset + WRITE_SIZE]

    def _flash(self, bank: str) -> bytearray:
        return self.data_flash if bank == DATA_BANK_NAME else self.banks[BANKS.index(bank)]

    def _operate(self) -> None:
        self.operations += 1
        if self.operations == self.cut_at:
            self._lose_power(Outcome.POWER_CUT)
            raise ModuleRefused(Code.POWER_CUT, "module")

    def _lose_power(self, outcome: Outcome) -> None:
        self.firmware.enters_update = False
        self.powered = False
        self.outcome = outcome
        self.measured = replace(self.measured, contactors_closed=False, close_requested=False)

    def _check_power(self) -> None:
        if not self.powered:
            raise Unavailable(Code.MODULE_ABSENT, "module", found="no power")

    def _check_range(self, bank: str, offset: int, length: int) -> None:
        known = bank in (*BANKS, DATA_BANK_NAME)
        if not known or offset < 0 or length < 0 or offset + length > len(self._flash(bank)):
            raise ModuleRefused(Code.FLASH_RANGE, f"bank {bank}")

    def _check_write(self, bank: str, offset: int, length: int, unit: int) -> None:
        self._check_open()
        self._check_power()
        self._check_range(bank, offset, length)
        if offset % unit or length % unit or not length:
            raise ModuleRefused(Code.FLASH_ALIGNMENT, f"bank {bank}")
        if self.outcome is Outcome.RUNNING and bank == BANKS[self.active]:
            raise ModuleRefused(Code.FLASH_LOCKED, f"bank {bank}")

    def _image(self, bank: int, stage: Stage) -> Image | None:
        slot = self.hardware.slot(stage)
        try:
            image = decode_slot(bytes(self.banks[bank][slot.offset : slot.end]))
        except CellwardError:
            return None
        good = image.digest == image.stated_digest and (image.counter or 0) >= self.counter
        return image if good else None

    def _candidate(self, bank: int) -> Candidate:
        trailer = decode_trailer(bytes(self.banks[bank][-TRAILER_SIZE:]))
        app = self._image(bank, Stage.APP)
        if app is None:
            return Candidate(trailer, 0, (0, 0, 0, 0))
        version = app.version
        parts = (version.major, version.minor, version.revision, version.build)
        return Candidate(trailer, app.counter or 0, parts)

    def _boot(self, cause: str) -> tuple[BootReport, ...]:
        self.firmware.booted()
        self.boot_count += 1
        if self.firmware.enters_update:
            self.firmware.enters_update = False
            self.outcome = Outcome.UPDATING
            self._report(cause, Outcome.UPDATING, "rom_entered", "loader_entered", "update_entered")
            return self.reports()
        candidates = [self._candidate(bank) for bank in range(len(BANKS))]
        for bank in choose(candidates[0], candidates[1]):
            if all(self._image(bank, stage) is not None for stage in Stage):
                return self._run(bank, state_of(candidates[bank].trailer), cause)
        self.outcome = Outcome.RECOVERY
        self._report(cause, Outcome.RECOVERY, "rom_entered", "recovery")
        return self.reports()

    def _run(self, bank: int, state: State, cause: str) -> tuple[BootReport, ...]:
        self.active = bank
        if state is State.PENDING:
            self._flag(bank, COPY_DONE_FROM_END)
            assert TRANSITIONS[state, Event.START] is State.TRIAL
            if not self.selftest_passes:
                self._report(cause, Outcome.RESET, "trial_started", "selftest_failed")
                return self._boot("software")
            self._flag(bank, IMAGE_OK_FROM_END)
            self._report(cause, Outcome.RESET, "trial_started", "selftest_passed", "confirmed")
            return self._boot("software")
        app = self._image(bank, Stage.APP)
        self.counter = max(self.counter, (app.counter if app else 0) or 0)
        self.firmware.committed(bank)
        self.outcome = Outcome.RUNNING
        self._report(cause, Outcome.RUNNING, "rom_entered", "loader_entered", "app_entered", "running")
        return self.reports()

    def _flag(self, bank: int, from_end: int) -> None:
        at = self.hardware.bank_size - from_end
        self.banks[bank][at : at + WRITE_SIZE] = flag_phrase()

    def _report(self, cause: str, outcome: Outcome, *passed: str) -> None:
        milestones = tuple(Milestone(name, 0, 0) for name in passed)
        events, self.noted = tuple(self.noted), []
        bank = BANKS[self.active]
        self.boots.append(BootReport(cause, bank, outcome, self.counter, False, milestones, events))
