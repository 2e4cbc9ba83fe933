"""The module: real ROM, loader and app on the emulated core, between flash, fuses and the pack.

Everything is deterministic. Time is counted in instructions (CLOCK_PER_MS of them are one
millisecond) and in ticks that the firmware idles away; a hang is judged by an instruction budget,
never by the wall clock. Instructions are charged by the slice: a slice that ends early, because
the core had to stop, is charged whole.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cellward.core.errors import STATUS_WORDS, Code, FormatRefused, ModuleRefused, Unavailable
from cellward.core.slots import BANKS, Hardware
from cellward.ports.module import BootEvent, BootReport, Milestone, Outcome
from cellward.vbms import registers
from cellward.vbms.controllers import FlashController, FuseController, FuseShadow
from cellward.vbms.counting import InstructionCounter
from cellward.vbms.cpu import Cpu, Halt, Memories
from cellward.vbms.mailbox import Mailbox
from cellward.vbms.nor import Nor
from cellward.vbms.otp import Otp
from cellward.vbms.pack import Pack
from cellward.vbms.peripherals import PackInterface, Peripheral, RandomSource, SystemControl, WatchdogTimer
from cellward.vbms.registers import LINK_BUFFER_SIZE, ResetCause, TamperSource, Where
from cellward.vbms.sensors import LATCH_SIZE, TamperLatch

CLOCK_PER_MS = 48_000
TICK_MS = 10
# Instructions until a boot must have settled; time idled away counts as what could have been done
# in it. Both banks full, both verified twice by ROM and loader, is about 400 million (81 M a digest).
BOOT_BUDGET = 1_000_000_000
MAX_UNSETTLED_BOOTS = 16
SETTLE_MS = 50
ANSWER_IDLE_MS = 5_000  # that the firmware may idle away with a request before it
# All reports together fit a frame of the module link.
MAX_REPORTS = 16
MAX_EVENTS = 32

SETTLED_BY = {
    registers.Milestone.RUNNING: Outcome.RUNNING,
    registers.Milestone.RECOVERY: Outcome.RECOVERY,
    registers.Milestone.UPDATE_ENTERED: Outcome.UPDATING,
}
# Makes the core of each boot: Cpu, or an experiment's subclass of it.
CpuFactory = Callable[[bytes, Memories, Mapping[int, Peripheral], InstructionCounter | None], Cpu]


@dataclass
class Boot:
    """A report in the making. `outcome` None: under way."""

    cause: ResetCause
    outcome: Outcome | None = None
    began_ms: int = 0
    instructions: int = 0
    settling: Outcome | None = None
    settling_since_ms: int = 0
    bank: int = 0
    counter: int = 0
    contactors_closed: bool = False
    milestones: list[Milestone] = field(default_factory=list)
    events: list[BootEvent] = field(default_factory=list)

    def report(self) -> BootReport:
        return BootReport(
            cause=self.cause.name.lower(),
            bank=BANKS[self.bank],
            outcome=self.outcome or Outcome.HANG,
            counter=self.counter,
            contactors_closed=self.contactors_closed,
            milestones=tuple(self.milestones),
            events=tuple(self.events),
        )


class Machine:
    """One module without its state file.

    `exact` counts every instruction, at a fifth of the speed. `latch` (LATCH_SIZE writable bytes) is
    the tamper sensors' and outlives power; None: a new one.
    """

    def __init__(
        self,
        rom: bytes,
        hardware: Hardware,
        flash: memoryview,
        nor: Nor,
        otp: Otp,
        pack: Pack,
        entropy: Callable[[], int],
        *,
        exact: bool = False,
        latch: memoryview | None = None,
        cpu: CpuFactory = Cpu,
    ) -> None:
        self._rom = rom
        self._make_cpu = cpu
        self._memories = Memories(hardware, flash)
        self.nor = nor
        self.otp = otp
        self.pack = pack
        self.counter = InstructionCounter(hardware) if exact else None
        self._system = SystemControl(otp, self)
        self._watchdog = WatchdogTimer()
        self._latch = TamperLatch(memoryview(bytearray(LATCH_SIZE)) if latch is None else latch, otp)
        self._mailbox = Mailbox(self._memories.rx.view, self._memories.tx.view)
        self._bus: dict[int, Peripheral] = {
            registers.SYS_BASE: self._system,
            registers.FLASH_BASE: FlashController(nor, lambda: self._system.active),
            registers.OTP_CTRL_BASE: FuseController(otp),
            registers.WATCHDOG_BASE: self._watchdog,
            registers.PACK_BASE: PackInterface(pack),
            registers.TRNG_BASE: RandomSource(entropy),
            registers.OTP_BASE: FuseShadow(otp),
            registers.TAMPER_BASE: self._latch,
            registers.LINK_BASE: self._mailbox,
        }
        self._cpu: Cpu | None = None
        self._boot = Boot(ResetCause.POWER, Outcome.OFF)
        self._boots: deque[Boot] = deque(maxlen=MAX_REPORTS)
        self._unsettled = 0
        self._clock = 0  # instructions towards the next millisecond
        self._in_run = False
        self._struck = False  # by a tamper event, while the core ran
        self.powered = False

    # --- from outside ---

    def power_on(self) -> None:
        """Boot from no power and settle; without effect on a module that has power."""
        if self.powered:
            return
        self.powered = True
        self.pack.at_ms = 0
        self._system.retain = 0
        self._boots.clear()
        self._unsettled = 0
        self._begin(ResetCause.POWER)
        self.settle()

    def reset(self) -> None:
        """Pull the reset pin and settle."""
        self._boots.clear()
        self._unsettled = 0
        self._begin(ResetCause.PIN)
        self.settle()

    def power_off(self, outcome: Outcome = Outcome.OFF) -> None:
        """RAM, RETAIN and the contactor driver lose their power; flash and fuses keep theirs."""
        if self.powered:
            self._end(outcome)
            self.powered = False
            self.pack.power_off()
            self._memories.lose_power()

    def settle(self) -> None:
        """Run, through the module's own resets, until the firmware is in charge or hangs."""
        while self._cpu is not None and self._boot.outcome is None:
            self._step(self._cpu)

    def run(self, milliseconds: int) -> None:
        """Let this much of the module's time pass."""
        horizon = self.pack.at_ms + milliseconds
        while self.pack.at_ms < horizon:
            if self._cpu is None:
                self.pack.advance(horizon - self.pack.at_ms)
            else:
                self._step(self._cpu)
        self.settle()

    def tamper(self, source: TamperSource) -> None:
        """A sensor trips: the core resets at once and settles, whatever it was doing; from within a
        run, when that hands back. Without power, the latch is found at power-on."""
        self._latch.trip(source)
        if self._in_run and self._cpu is not None:
            self._struck = True
            self._cpu.interrupt()
        elif self.powered:
            self._unsettled = 0
            self._strike()
            self.settle()

    def exchange(self, request: bytes) -> bytes:
        """The firmware's answer; what follows it has settled.

        Raises FormatRefused (link.frame), Unavailable (link.silent), ModuleRefused (power.cut).
        """
        if not 0 < len(request) <= LINK_BUFFER_SIZE:
            raise FormatRefused(
                Code.LINK_FRAME,
                "request to the module",
                expected=f"1 to {LINK_BUFFER_SIZE} bytes",
                found=f"{len(request)}",
            )
        if not self._mailbox.free:
            raise self._silence("a request before this one")
        self._mailbox.put(request)
        self._await_answer()
        if self._mailbox.answer is not None:
            return self._mailbox.answer
        if not self.powered:
            raise ModuleRefused(
                Code.POWER_CUT, "module", expected="power until the answer", found="a cut before it"
            )
        raise self._silence(f"none, outcome {self.outcome}")

    def flip_bit(self, bank: int, offset: int, bit: int) -> None:
        """Raises ModuleRefused (flash.range)."""
        self.nor.flip(bank, offset, bit)
        if self._cpu is not None:
            self._cpu.flush()

    def memory(self) -> dict[str, bytes]:
        """All that holds data, by its name, the registers of a core that runs among it."""
        memories = self._memories
        parts = {"ram": memories.ram, "link_rx": memories.rx, "link_tx": memories.tx, "flash": memories.flash}
        return {
            "registers": b"" if self._cpu is None else self._cpu.registers(),
            "retain": self._system.retain.to_bytes(4, "little"),
            "fuses": self.otp.image(),
            **{name: bytes(part.view) for name, part in parts.items()},
        }

    def close(self) -> None:
        """Free the emulator and let go of the flash memory."""
        self.power_off()
        del self._memories

    @property
    def outcome(self) -> Outcome:
        return self._boot.outcome or Outcome.HANG

    @property
    def active_bank(self) -> int:
        return self._system.active

    def reports(self) -> tuple[BootReport, ...]:
        if self._cpu is not None:
            self._note(self._boot)
        return tuple(boot.report() for boot in self._boots)

    # --- what the firmware says (peripherals.Observer) ---

    def event(self, where: Where, bank: int, status: int, expected: int, found: int) -> None:
        if len(self._boot.events) < MAX_EVENTS:
            self._boot.events.append(
                BootEvent(where.name.lower(), BANKS[bank], status, expected, found, self.pack.at_ms)
            )

    def milestone(self, milestone: registers.Milestone) -> None:
        boot = self._boot
        if len(boot.milestones) < MAX_EVENTS:
            passed = boot.instructions if self.counter is None else self.counter.total
            boot.milestones.append(Milestone(milestone.name.lower(), self.pack.at_ms, passed))
        if milestone in SETTLED_BY:
            boot.settling = SETTLED_BY[milestone]
            boot.settling_since_ms = self.pack.at_ms

    # --- the run loop ---

    def _begin(self, cause: ResetCause) -> None:
        """Reset everything that a reset resets, and start at the ROM's vector."""
        self._free()
        self._reset_peripherals()
        self._system.cause = cause
        if self.counter is not None:
            self.counter.reset()
        self._boot = Boot(cause, began_ms=self.pack.at_ms)
        self._boots.append(self._boot)
        self._unsettled += 1
        self._struck = False
        self._cpu = self._make_cpu(self._rom, self._memories, self._bus, self.counter)

    def _reset_peripherals(self) -> None:
        """Contactors open, latches clear, bank a is active."""
        for peripheral in self._bus.values():
            peripheral.reset()

    def _end(self, outcome: Outcome) -> None:
        if self._cpu is not None:
            self._note(self._boot)
        self._free()
        self._boot.outcome = outcome

    def _free(self) -> None:
        """A VM never outlives its reset: no stale translation, nothing left over from a crash."""
        if self._cpu is not None:
            self._cpu.close()
            self._cpu = None

    def _note(self, boot: Boot) -> None:
        boot.bank = self._system.active
        boot.counter = self.otp.counter
        boot.contactors_closed = self.pack.contactors_closed

    def _step(self, cpu: Cpu) -> Halt:
        """One slice, and what follows from how it ended."""
        slice_ = min(CLOCK_PER_MS, self._watchdog.remaining or CLOCK_PER_MS)
        self._in_run = True
        halt = cpu.run(slice_)
        self._in_run = False
        if halt is Halt.POWER_CUT:
            self.power_off(Outcome.POWER_CUT)
        elif self._struck:
            self._strike()
        elif halt is Halt.RESET:
            self._restart(ResetCause.SOFTWARE)
        elif halt is Halt.FAULT and cpu.fault is not None:
            # Nothing handles exceptions here: the core locks up and the watchdog's reset follows.
            self._hardware_event(Code.MODULE_FAULT, cpu.fault.pc, cpu.fault.address)
            self._restart(ResetCause.WATCHDOG)
        else:
            self._go_on(cpu, halt, slice_)
        return halt

    def _go_on(self, cpu: Cpu, halt: Halt, slice_: int) -> None:
        self._pass_time(halt, slice_)
        if halt is Halt.REMAP:
            cpu.remap(self._system.active, self._system.executable)
        elif halt is Halt.FLUSH:
            cpu.flush()
        self._judge(halt)

    def _await_answer(self) -> None:
        """Run until the answer is there and what follows it has settled, or none will come: after a
        reset, ANSWER_IDLE_MS of idling or BOOT_BUDGET instructions."""
        boot, started, idled = self._boot, self._boot.instructions, 0
        while self._cpu is not None and self._mailbox.waiting:
            before = self.pack.at_ms
            if self._step(self._cpu) is Halt.IDLE:
                idled += self.pack.at_ms - before
            if idled > ANSWER_IDLE_MS or boot.instructions - started > BOOT_BUDGET:
                break
        answered_at = self.pack.at_ms
        while self._cpu is not None and boot is self._boot and self._mailbox.answer is not None:
            if self._step(self._cpu) is Halt.IDLE or self.pack.at_ms - answered_at >= SETTLE_MS:
                break
        self.settle()

    def _silence(self, found: str) -> Unavailable:
        return Unavailable(Code.LINK_SILENT, "module", expected="an answer to the request", found=found)

    def _pass_time(self, halt: Halt, slice_: int) -> None:
        if halt is Halt.IDLE:
            milliseconds = TICK_MS - self.pack.at_ms % TICK_MS
            self._clock = 0
            self._watchdog.spend(milliseconds * CLOCK_PER_MS)
        else:
            self._boot.instructions += slice_
            self._watchdog.spend(slice_)
            milliseconds, self._clock = divmod(self._clock + slice_, CLOCK_PER_MS)
        if milliseconds:
            self.pack.advance(milliseconds)

    def _judge(self, halt: Halt) -> None:
        boot = self._boot
        if self._watchdog.expired:
            self._hardware_event(Code.WATCHDOG, 0, 0)
            self._restart(ResetCause.WATCHDOG)
        elif boot.outcome is None and boot.settling is not None:
            if halt is Halt.IDLE or self.pack.at_ms - boot.settling_since_ms >= SETTLE_MS:
                boot.outcome = boot.settling
                self._unsettled = 0
        elif boot.outcome is None and self.pack.at_ms - boot.began_ms > BOOT_BUDGET // CLOCK_PER_MS:
            self._end(Outcome.HANG)

    def _strike(self) -> None:
        """The reset of a tamper event."""
        if self._cpu is None:
            self._begin(ResetCause.TAMPER)
        else:
            self._restart(ResetCause.TAMPER)

    def _restart(self, cause: ResetCause) -> None:
        self._end(Outcome.RESET)
        if self._unsettled >= MAX_UNSETTLED_BOOTS:
            self._boot.outcome = Outcome.HANG
            self._reset_peripherals()
        else:
            self._begin(cause)

    def _hardware_event(self, code: Code, expected: int, found: int) -> None:
        self.event(Where.HARDWARE, self._system.active, STATUS_WORDS[code], expected, found)
